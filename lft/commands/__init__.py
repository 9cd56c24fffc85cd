"""What the subcommands of ``lft`` do, one file each; ``lft.cli`` only parses and prints."""
