import pytest

from diptych.cli import commands, main


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed and found.title in printed for name, found in commands().items())


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lsit"]) == 2
    assert capsys.readouterr().err == "diptych: unknown command 'lsit': did you mean 'list'?\n"


def test_matrix_answers_for_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    from diptych.core import discovery

    assert main(["list", "matrix", "--json"]) == 0
    printed = capsys.readouterr().out
    assert all(f'"{name}"' in printed for name, found in discovery.models().items() if found.literal("VERBS", ()))
