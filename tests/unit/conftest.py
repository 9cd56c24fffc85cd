"""What the tests of commands share."""

import pytest

from lft.cli import main


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder in which the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def lft_main(here, capsys):
    """Run a command line in an empty folder; returns (standard output, standard error)."""

    def run(line, code=0):
        capsys.readouterr()
        assert main(line.split() if isinstance(line, str) else line) == code, capsys.readouterr().err
        return capsys.readouterr()

    return run
