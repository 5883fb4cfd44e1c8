from __future__ import annotations

import pytest

from study.__main__ import COMMANDS, main


def test_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, status in (([], 2), (["--help"], 0), (["grap"], 2)):
        assert main(arguments) == status
        listed = capsys.readouterr().out.splitlines()[1:]
        assert [line.split()[0] for line in listed] == list(COMMANDS)


def test_the_rest_of_the_line_goes_to_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "none.yml"]) == 2
    assert "none.yml: no such profile" in capsys.readouterr().err
