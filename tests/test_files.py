"""Files are written whole or not at all, by one program or by several at once."""

import threading

import pytest

from deeplight_jax.files import replacing, write_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("alone", [True, False])
def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, alone):
    file = tmp_path / "result.json"
    write_atomically(file, "old\n", alone=alone)

    def fail():
        with replacing(file, alone=alone) as temporary:
            temporary.write_text("half")
            assert file.read_text() == "old\n"
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        fail()
    assert (file.read_text(), names(tmp_path)) == ("old\n", ["result.json"])


def test_what_a_kill_left_is_taken_up_by_who_is_alone(tmp_path):
    (tmp_path / ".result.json.tmp").write_text("half of another one, and longer")
    write_atomically(tmp_path / "result.json", "new\n", alone=True)
    assert (names(tmp_path), (tmp_path / "result.json").read_text()) == (["result.json"], "new\n")


def test_programs_that_write_one_file_at_once_do_not_meet(tmp_path):
    file, texts = tmp_path / "sweep.json", [letter * 200_000 for letter in "abcd"]
    barrier = threading.Barrier(len(texts), timeout=30)

    def write(text):
        for _ in range(20):
            barrier.wait()
            write_atomically(file, text)
            assert file.read_text() in texts

    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert file.read_text() in texts
    assert names(tmp_path) == ["sweep.json"]


def test_a_directory_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "no" / "result.json", "new\n")
