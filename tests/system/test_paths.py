"""What stands at a path that a user names, or keeps it from being read, is said in one line."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest
from helpers.permissions import permissions_hold

from qc_experiments.errors import UserError
from qc_experiments.system.paths import (
    file_problem,
    folder_problem,
    open_file,
    output_file_problem,
    output_problem,
    read_file,
    resolve_path,
    user_path,
)

LONG = "n" * 300


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A folder with one of each thing that is no readable file."""
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "folder").mkdir()
    (tmp_path / "good_link").symlink_to("file")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(tmp_path)  # a socket's path must be short
        try:
            listening.bind("socket")
        finally:
            os.chdir(here)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("file", None),
        ("good_link", None),
        ("none", "no such file"),
        ("file/below", "no such file"),
        ("folder", "is a folder, not a file"),
        ("broken", "is a broken link"),
        ("loop", "is a link that leads back to itself"),
        ("pipe", "is a pipe, not a file"),
        ("zero", "is a device, not a file"),
        ("socket", "is a socket, not a file"),
        (LONG, "the name is too long"),
        ("a\0b", "is no path: it holds a NUL character"),
    ],
)
def test_what_is_no_file_is_told_and_nothing_is_waited_for(places, name, problem):
    assert file_problem(places / name) == problem
    if problem is None:
        assert read_file(places / name) == b"text"
    else:
        with pytest.raises(OSError, match=re.escape(problem)):
            open_file(places / name)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("folder", None),
        ("file", "is a file, not a folder"),
        ("pipe", "is a file, not a folder"),
        ("none", "no such folder"),
        ("broken", "is a broken link"),
        ("loop", "is a link that leads back to itself"),
        (LONG, "the name is too long"),
        ("a\0b", "is no path: it holds a NUL character"),
    ],
)
def test_what_is_no_folder_is_told(places, name, problem):
    assert folder_problem(places / name) == problem
    wanted = None if problem == "no such folder" else problem  # it can be made
    assert output_problem(places / name) == wanted


def test_a_file_that_stands_where_the_outputs_folder_should_be_is_named(places):
    problem = output_file_problem(places / "file" / "answers.csv")
    assert problem == f"{places / 'file'} is a file, not a folder"


def test_no_permission_is_told(tmp_path):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0)
    (tmp_path / "closed").mkdir(mode=0)
    with permissions_hold():
        assert file_problem(tmp_path / "secret") == "no permission to read it"
        assert folder_problem(tmp_path / "closed") == "no permission to read it"
        assert file_problem(tmp_path / "closed" / "x") == "no permission to read it"
        assert output_problem(tmp_path / "closed") == f"no permission to write to {tmp_path}/closed"
    assert file_problem(tmp_path / "secret") is None or os.geteuid() != 0


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="of Linux")
def test_a_folder_in_which_nothing_can_be_made_is_told_though_permissions_allow_it():
    found = output_problem(Path("/proc/outputs/run"))
    assert found is not None
    assert "/proc" in found


def test_looking_whether_a_folder_can_be_written_leaves_nothing(tmp_path):
    assert output_problem(tmp_path / "outputs" / "run") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["~nobody_of_this_name/x.csv", "a\0b"])
def test_what_can_be_no_path_is_refused(text):
    with pytest.raises(UserError, match=r"^data\.train"):
        user_path(text, "data.train")


@pytest.mark.parametrize(
    ("name", "problem"),
    [("none", "no such file or folder"), ("loop", "leads back"), (LONG, "too long")],
)
def test_a_setting_that_names_nothing_is_refused(places, name, problem):
    with pytest.raises(UserError, match=problem):
        resolve_path(str(places / name), "data.train")
    assert resolve_path(str(places / "folder"), "data.train") == places / "folder"
