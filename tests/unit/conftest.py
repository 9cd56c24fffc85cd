"""What the tests of commands share."""

import pytest

from lft.cli import main


@pytest.fixture
def lft_main(tmp_path, monkeypatch, capsys):
    """Run a command line in an empty folder; returns (standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(line, code=0):
        capsys.readouterr()
        assert main(line.split() if isinstance(line, str) else line) == code, capsys.readouterr().err
        return capsys.readouterr()

    return run
