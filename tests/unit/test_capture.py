"""Capture files: what is stored comes back, what is broken is refused in one line."""

import dataclasses
import hashlib
import json
import subprocess
import sys
import tracemalloc

import h5py
import numpy as np
import pytest

from testbed.capture import (
    CHUNK_SAMPLES,
    CHUNK_TABLE,
    Capture,
    CaptureWriter,
    NodeCapture,
    Notice,
    check,
    load,
    save,
    truncate,
)
from testbed.capture.layout import NOTICE_TABLE
from testbed.device import Reception
from testbed.errors import CaptureError
from testbed.measurement import Estimate
from tests.scenes import capture_comp, loss_record


@pytest.fixture(scope="module")
def capture():
    """Three nodes, 140 frames of 640 samples: two chunks each, the second one partly filled."""
    return capture_comp(num_frames=140)


@pytest.fixture
def stored(capture, tmp_path):
    path = tmp_path / "comp.h5"
    save(path, capture)
    return path


def reception(rng, count, *, num_rx=1, start=0, clip_count=0):
    raw = rng.integers(-2047, 2048, size=(num_rx, count, 2), dtype=np.int16)
    return Reception(raw, 2048, 3, start, clip_count, "reported")


def empty(capture, name="bs1"):
    """A capture of one node without samples, as a writer is given it."""
    node = dataclasses.replace(
        capture.node(name), raw=np.empty((1, 0, 2), np.int16), chunks=np.empty(0, dtype=CHUNK_TABLE)
    )
    return dataclasses.replace(capture, nodes=(node,))


def refused(path):
    """The one-line message with which a file is refused, by `load` and by `check`."""
    with pytest.raises(CaptureError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert check(path) == [message]
    return message


# Round trip


def assert_same(before, after, where=""):
    """Equal in every field of every dataclass, arrays in dtype and bits."""
    assert type(before) is type(after), where
    if dataclasses.is_dataclass(before):
        for field in dataclasses.fields(before):
            assert_same(getattr(before, field.name), getattr(after, field.name), f"{where}.{field.name}")
    elif isinstance(before, tuple):
        assert len(before) == len(after), where
        for i, (a, b) in enumerate(zip(before, after, strict=True)):
            assert_same(a, b, f"{where}[{i}]")
    elif isinstance(before, np.ndarray):
        assert before.dtype == after.dtype, where
        np.testing.assert_array_equal(before, after, err_msg=where)
    else:
        assert before == after, where


def test_a_capture_comes_back_equal_in_every_field(capture, stored):
    after = load(stored)

    # `info` gains when and with what it was written; the rest is the same
    assert after.info.items() >= capture.info.items()
    assert set(after.info) - set(capture.info) == {"created", "versions"}
    # JSON has lists where Python has tuples
    plain = json.loads(json.dumps({"setup": capture.setup, "experiment": capture.experiment}))
    assert_same(dataclasses.replace(capture, info=after.info, **plain), after)


def test_a_loaded_capture_stored_again_is_the_same_capture(stored, tmp_path):
    first = load(stored)
    save(tmp_path / "again.h5", first)

    assert_same(first, load(tmp_path / "again.h5"))


def test_node_order_is_kept_and_not_the_alphabets(capture, tmp_path):
    nodes = tuple(dataclasses.replace(n, name=name) for n, name in zip(capture.nodes, ["z", "a", "m"], strict=True))
    save(tmp_path / "c.h5", dataclasses.replace(capture, nodes=nodes))

    assert [node.name for node in load(tmp_path / "c.h5").nodes] == ["z", "a", "m"]


def test_noise_variance_is_kept_with_its_error_and_count_or_as_none(capture, tmp_path):
    estimate = Estimate(value=1.0000000000000002e-9, stderr=1 / 3, count=12)
    nodes = (
        dataclasses.replace(capture.nodes[0], noise_var=estimate),
        dataclasses.replace(capture.nodes[1], noise_var=None),
    )
    save(tmp_path / "c.h5", dataclasses.replace(capture, nodes=nodes))

    assert [node.noise_var for node in load(tmp_path / "c.h5").nodes] == [estimate, None]


def test_a_muted_capture_has_no_frame(tmp_path):
    save(tmp_path / "muted.h5", capture_comp(num_frames=2, muted=True))

    assert load(tmp_path / "muted.h5").frame is None


def test_two_receive_channels_are_kept_apart(capture, tmp_path):
    node = capture.nodes[0]
    limits = dataclasses.replace(node.limits, num_rx=2)
    got = reception(np.random.default_rng(1), 1000, num_rx=2)
    node = dataclasses.replace(node, raw=got.raw, limits=limits, chunks=loss_record([got]))
    save(tmp_path / "c.h5", dataclasses.replace(capture, nodes=(node,)))

    np.testing.assert_array_equal(load(tmp_path / "c.h5").nodes[0].raw, got.raw)


def test_samples_are_in_root_milliwatt_at_the_antenna():
    # rx_full_scale_dbm 10.2 at gain 0: at 40 dB full scale is -29.8 dBm, raw 2048 has amplitude sqrt(10**-2.98)
    node = capture_comp(num_frames=1).nodes[0]
    node = dataclasses.replace(node, raw=np.array([[[1024, 0], [0, -2047]]], dtype=np.int16))

    expected = np.sqrt(10**-2.98) * np.array([[0.5, -1j * 2047 / 2048]])
    np.testing.assert_allclose(node.samples, expected, rtol=1e-6)
    assert node.samples.dtype == np.complex64
    assert node.lsb == pytest.approx(np.sqrt(10**-2.98) / 2048)


# Layout


def test_layout_has_the_documented_names(stored):
    with h5py.File(stored) as file:
        assert set(file) == {"setup", "experiment", "info", "frame", "nodes"}
        assert set(file["frame"]) == {"samples", "pilot_power", "data_power"}
        assert list(file["nodes"]) == ["bs1", "bs2", "bs3"]
        for group in file["nodes"].values():
            assert set(group) == {"iq", "chunks", "captures", "attempts", "notices"}
            assert group["notices"].dtype.names == ("attempt", "kind", "sample_start", "sample_count", "node")
            assert group["attempts"].dtype == "<u4"
            assert group["attempts"][()].tolist() == [1]
            assert set(group.attrs) >= {"isac:settings", "isac:limits", "isac:noise_var", "isac:full_scale"}
            assert group["iq"].dtype == "<i2"
            assert group["iq"].shape == (1, 141 * 640, 2)
            assert group["iq"].chunks == (1, 65536, 2)
            assert group["iq"].maxshape == (1, None, 2)
            assert not group["iq"].fletcher32
            assert group["chunks"].dtype == CHUNK_TABLE


def test_sample_rate_and_further_attributes_have_sigmf_names(stored):
    with h5py.File(stored) as file:
        assert file.attrs["core:sample_rate"] == 20e6
        assert file.attrs["core:datatype"] == b"ci16_le"
        assert file.attrs["core:version"] == b"1.2.6"
        assert file.attrs["isac:simulated"]
        extensions = json.loads(file.attrs["core:extensions"])
        assert extensions == [{"name": "isac", "version": "1", "optional": True}]
        group = file["nodes/bs2"]
        assert group.attrs["core:hw"] == b"emulated 12-bit radio"
        assert group.attrs["core:num_channels"] == 1
        (segment,) = group["captures"]
        assert segment["core:sample_start"] == 0
        assert segment["core:frequency"] == 3.5e9
        assert segment["isac:rx_gain_db"] == 40.0
        assert segment["core:datetime"].endswith(b"Z")


def test_texts_and_tables_are_of_fixed_length_so_that_a_reader_may_follow_the_writer(stored):
    def fixed(kind):
        info = h5py.check_string_dtype(kind)
        return info is None or info.length is not None

    def visit(name, item):
        assert all(fixed(value.dtype) for value in map(np.asarray, item.attrs.values())), name
        if isinstance(item, h5py.Dataset):
            assert fixed(item.dtype), name

    with h5py.File(stored) as file:
        visit("/", file)
        file.visititems(visit)


def test_tables_and_attributes_stand_before_the_first_sample(capture, tmp_path):
    with CaptureWriter(tmp_path / "c.h5", empty(capture)) as writer:
        before = _names(writer._file)
        writer.write("bs1", reception(np.random.default_rng(1), 1000))
        assert _names(writer._file) == before


def _names(file):
    names = [("/", sorted(file.attrs))]
    file.visititems(lambda name, item: names.append((name, sorted(item.attrs))))
    return names


# Loss record and hashes


def test_every_chunk_has_the_hash_of_its_integers(stored):
    with h5py.File(stored) as file:
        for group in file["nodes"].values():
            rows = group["chunks"][()]
            assert [int(row["sample_count"]) for row in rows] == [65536, 141 * 640 - 65536]
            for row in rows:
                first, last = int(row["sample_start"]), int(row["sample_start"] + row["sample_count"])
                raw = group["iq"][:, first:last].astype("<i2").tobytes()
                assert hashlib.blake2b(raw, digest_size=16).hexdigest().encode() == row["blake2b"]


def test_a_whole_file_has_no_fault(stored):
    assert check(stored) == []


@pytest.mark.parametrize("sample", [0, 65535, 65536, 141 * 640 - 1])
def test_one_flipped_bit_is_found_and_its_chunk_named(stored, sample):
    with h5py.File(stored, "r+") as file:
        file["nodes/bs2/iq"][0, sample, 1] ^= 1

    (fault,) = check(stored)

    first, last = (0, 65535) if sample < 65536 else (65536, 141 * 640 - 1)
    assert fault == f"{stored}: nodes/bs2: samples {first}..{last} differ from their hash"


def test_a_loss_record_that_jumps_or_ends_early_is_a_fault(stored):
    with h5py.File(stored, "r+") as file:
        rows = file["nodes/bs1/chunks"]
        rows.resize(1, axis=0)
        table = file["nodes/bs3/chunks"]
        row = table[1]
        row["sample_start"] += 1
        row["sample_count"] -= 1
        table[1] = row

    faults = check(stored)

    assert f"{stored}: nodes/bs1: loss record ends at 65536 of 90240 samples" in faults
    assert f"{stored}: nodes/bs3: loss record jumps from sample 65536 to 65537" in faults


def test_receptions_of_odd_sizes_make_the_dataset_of_one_reception(capture, tmp_path):
    sizes = [1, 65534, 2, 70_000, 65536, 12_345, 131_073]
    whole = reception(np.random.default_rng(2), sum(sizes))
    with CaptureWriter(tmp_path / "whole.h5", empty(capture)) as writer:
        writer.write("bs1", whole)
    with CaptureWriter(tmp_path / "parts.h5", empty(capture)) as writer:
        for start, size in zip(np.cumsum([0, *sizes[:-1]]), sizes, strict=True):
            writer.write("bs1", dataclasses.replace(whole, raw=whole.raw[:, start : start + size], start=int(start)))

    one, many = load(tmp_path / "whole.h5").node("bs1"), load(tmp_path / "parts.h5").node("bs1")

    np.testing.assert_array_equal(many.raw, one.raw)
    assert check(tmp_path / "parts.h5") == []
    # no row reaches over a chunk border
    for node in (one, many):
        starts, counts = node.chunks["sample_start"], node.chunks["sample_count"]
        np.testing.assert_array_equal(starts // CHUNK_SAMPLES, (starts + counts - 1) // CHUNK_SAMPLES)
        np.testing.assert_array_equal(node.chunks["epoch_start"], starts)
        assert int(counts.sum()) == sum(sizes)


def test_clipping_and_loss_are_counted_once_per_reception(capture, tmp_path):
    with CaptureWriter(tmp_path / "c.h5", empty(capture)) as writer:
        writer.write("bs1", reception(np.random.default_rng(3), 100_000, clip_count=7))
        later = reception(np.random.default_rng(3), 100_000, start=100_640, clip_count=5)
        writer.write("bs1", later, lost_before=640)

    rows = load(tmp_path / "c.h5").node("bs1").chunks

    # rows end at chunk borders: 65536, 34464, 31072, 65536, 3392
    assert rows["sample_count"].tolist() == [65536, 34464, 31072, 65536, 3392]
    assert rows["clip_count"].tolist() == [7, 0, 5, 0, 0]
    assert rows["lost_before"].tolist() == [0, 0, 640, 0, 0]
    assert rows["epoch_start"].tolist() == [0, 65536, 100_640, 131_712, 197_248]
    assert rows["epoch"].tolist() == [3] * 5
    assert set(rows["continuity"]) == {b"reported"}


def test_samples_without_a_loss_record_are_not_dropped_in_silence(capture, tmp_path):
    node = dataclasses.replace(capture.nodes[0], chunks=capture.nodes[0].chunks[:1])

    with pytest.raises(CaptureError, match="loss record covers 65536 of 90240"):
        save(tmp_path / "c.h5", dataclasses.replace(capture, nodes=(node,)))
    assert list(tmp_path.iterdir()) == []


# Writing


def test_a_file_is_a_part_until_it_is_closed(capture, tmp_path):
    with CaptureWriter(tmp_path / "c.h5", empty(capture)) as writer:
        writer.write("bs1", reception(np.random.default_rng(1), 1000))
        assert [p.name for p in tmp_path.iterdir()] == ["c.h5.part"]

    assert [p.name for p in tmp_path.iterdir()] == ["c.h5"]
    assert check(tmp_path / "c.h5") == []


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt])
def test_an_interruption_leaves_the_earlier_file_whole_and_no_new_one(capture, tmp_path, interruption):
    save(tmp_path / "old.h5", capture)
    before = (tmp_path / "old.h5").read_bytes()

    for name in ("old.h5", "new.h5"):
        with pytest.raises(interruption), CaptureWriter(tmp_path / name, empty(capture)) as writer:
            writer.write("bs1", reception(np.random.default_rng(1), 1000))
            raise interruption

    assert (tmp_path / "old.h5").read_bytes() == before
    assert check(tmp_path / "old.h5") == []
    assert not (tmp_path / "new.h5").exists()


def test_what_is_left_by_an_interruption_does_not_stand_in_the_way(capture, tmp_path):
    with pytest.raises(ValueError), CaptureWriter(tmp_path / "c.h5", empty(capture)):
        raise ValueError

    save(tmp_path / "c.h5", capture)

    assert [p.name for p in tmp_path.iterdir()] == ["c.h5"]


def test_a_file_that_cannot_be_created_is_one_line(capture, tmp_path):
    with pytest.raises(CaptureError, match="cannot be created") as caught:
        save(tmp_path / "no such folder" / "c.h5", capture)
    assert "\n" not in str(caught.value)


def test_a_large_file_is_hardly_larger_than_its_samples(capture, tmp_path):
    # 17 Mi samples of two int16 are 71 MB, just over 64 MB; written in two receptions
    count = 17 << 20
    raw = np.zeros((1, count, 2), dtype=np.int16)
    raw[0, ::1000, 0] = 1
    with CaptureWriter(tmp_path / "c.h5", empty(capture)) as writer:
        for part in (raw[:, : count // 3], raw[:, count // 3 :]):
            writer.write("bs1", Reception(part, 2048, 1, 0, 0, "reported"))

    size = (tmp_path / "c.h5").stat().st_size

    assert raw.nbytes > 64e6
    assert raw.nbytes < size <= 1.05 * raw.nbytes


FULL_DISK = """
import resource, sys
from pathlib import Path
from testbed.capture import load, save
from testbed.errors import CaptureError

folder = Path(sys.argv[1])
capture = load(folder / "whole.h5")
size = (folder / "whole.h5").stat().st_size
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
for limit in [0, 1, 100, 4096, *range(10_000, size, size // 20), size - 1]:
    path = folder / f"{limit}.h5"
    message = None
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))  # what `ulimit -f` sets
    try:
        save(path, capture)
    except CaptureError as exc:
        message = str(exc)
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert message is not None and message.startswith(f"{path}: "), (limit, message)
    assert message.endswith("is the disk full?") and "\\n" not in message, message
    assert not path.exists(), limit
print("done")
"""


def test_a_full_disk_is_a_capture_error_at_every_size_and_never_gives_a_final_file(tmp_path):
    # 2.6 MB per node, so that the reserve for structures is not all there is; in a process of its own, for HDF5 used to
    # crash it after a failed write, even at its end
    save(tmp_path / "whole.h5", capture_comp(num_frames=1000))

    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "done", "")


@pytest.mark.parametrize("failure", [OSError(5, "Input/output error"), RuntimeError("Can't decrement id ref count")])
@pytest.mark.parametrize("when", ["flush", "close"])
def test_what_hdf5_raises_is_a_capture_error_and_the_file_stays_a_part(capture, tmp_path, monkeypatch, failure, when):
    def fail(self):
        raise failure

    writer = CaptureWriter(tmp_path / "c.h5", empty(capture))
    writer.write("bs1", reception(np.random.default_rng(1), 1000))
    with (
        monkeypatch.context() as patched,
        pytest.raises(CaptureError, match=r"c\.h5: writing failed \(.*\); is the disk full\?$"),
        writer,
    ):
        patched.setattr(h5py.File, when, fail)
        if when == "flush":
            writer.write("bs1", reception(np.random.default_rng(1), 1000, start=1000))
    writer._file.close()

    assert [p.name for p in tmp_path.iterdir()] == ["c.h5.part"]


def test_a_restart_discards_what_was_written_and_counts_the_attempt(capture, tmp_path):
    rng = np.random.default_rng(4)
    nodes = tuple(empty(capture, name).nodes[0] for name in ("bs1", "bs2"))
    lost, kept, other = reception(rng, 200_000, clip_count=3), reception(rng, 90_001), reception(rng, 1000)
    with CaptureWriter(tmp_path / "c.h5", dataclasses.replace(capture, nodes=nodes)) as writer:
        writer.write("bs2", other)
        for _ in range(2):
            writer.write("bs1", lost)
            writer.write("bs1", dataclasses.replace(lost, start=200_013), lost_before=13)
            writer.restart("bs1")
        writer.write("bs1", kept)

    after = load(tmp_path / "c.h5")
    assert check(tmp_path / "c.h5") == []
    assert [node.attempts for node in after.nodes] == [3, 1]
    np.testing.assert_array_equal(after.node("bs1").raw, kept.raw)
    np.testing.assert_array_equal(after.node("bs2").raw, other.raw)
    assert after.node("bs1").chunks["sample_count"].tolist() == [65536, 90_001 - 65536]
    assert after.node("bs1").chunks["clip_count"].sum() == after.node("bs1").chunks["lost_before"].sum() == 0
    # saved again, it is still the third attempt
    save(tmp_path / "again.h5", after)
    assert_same(after, load(tmp_path / "again.h5"))


def test_a_restart_before_anything_was_written_counts_as_well(capture, tmp_path):
    with CaptureWriter(tmp_path / "c.h5", empty(capture)) as writer:
        writer.restart("bs1")

    assert load(tmp_path / "c.h5").node("bs1").attempts == 2


def test_what_was_noticed_stays_in_the_file_with_the_attempt_it_happened_in(capture, tmp_path):
    rng = np.random.default_rng(4)
    with CaptureWriter(tmp_path / "c.h5", empty(capture)) as writer:
        writer.write("bs1", reception(rng, 1000))
        writer.notice("bs1", Notice("lost", 1000, 13))
        writer.restart("bs1")
        writer.notice("bs1", Notice("gap", 640, 1280, "bs2"))
        writer.write("bs1", reception(rng, 1000))

    after = load(tmp_path / "c.h5")
    assert after.node("bs1").notices == (Notice("lost", 1000, 13), Notice("gap", 640, 1280, "bs2", 2))
    assert after.node("bs1").notes() == (
        "bs1: 13 samples lost near sample 1000, as the radio reported; received again",
        "bs1: bs2 fell silent near sample 640, in 1280 samples; kept",
    )
    assert check(tmp_path / "c.h5") == []
    # saved again, and cut short, it still says so
    save(tmp_path / "again.h5", after)
    truncate(tmp_path / "again.h5", after, 640)
    assert load(tmp_path / "again.h5").node("bs1").notices == after.node("bs1").notices


def test_a_file_from_before_attempts_were_counted_is_of_one(stored):
    with h5py.File(stored, "r+") as file:
        del file["nodes/bs1/attempts"], file["nodes/bs1/notices"]

    assert load(stored).node("bs1").attempts == 1
    assert load(stored).node("bs1").notices == ()
    assert check(stored) == []


# Broken files


def test_a_missing_file_is_named(tmp_path):
    assert "no such file" in refused(tmp_path / "nothing.h5")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused(stored, share):
    whole = stored.read_bytes()
    stored.write_bytes(whole[: int(share * len(whole))])

    refused(stored)


@pytest.mark.parametrize("content", [b"", b"no capture\n" * 1000, b"\x89HDF\r\n\x1a\n" + bytes(5000)])
def test_a_file_that_is_no_hdf5_is_refused(tmp_path, content):
    (tmp_path / "c.h5").write_bytes(content)

    assert "not a readable capture" in refused(tmp_path / "c.h5")


def test_a_directory_is_refused(tmp_path):
    refused(tmp_path)


def test_a_foreign_hdf5_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["data"] = np.arange(10)

    assert "layout None; this version reads 1" in refused(tmp_path / "c.h5")


def test_a_later_layout_is_refused_by_its_number(stored):
    with h5py.File(stored, "r+") as file:
        file.attrs["isac:layout"] = 2

    assert "layout 2; this version reads 1" in refused(stored)


def _delete(name):
    def damage(file):
        del file[name]

    return damage


def _replace(name, value, **options):
    def damage(file):
        del file[name]
        file.create_dataset(name, data=value, **options)

    return damage


def _attribute(group, key, value):
    def damage(file):
        file[group].attrs[key] = value

    return damage


def _absurd_iq(file):
    file["nodes/bs1/iq"].resize(1 << 45, axis=1)  # 128 TB claimed, not one byte of it written


def _absurd_frame(file):
    del file["frame/samples"]
    file["frame"].create_dataset("samples", shape=(3, 1 << 40), dtype="c16", chunks=(1, 1024))


def _absurd_table(file):
    file["nodes/bs1/chunks"].resize(1 << 40, axis=0)


def _absurd_document(file):
    del file["setup"]
    file.create_dataset("setup", shape=(1 << 40,), dtype="S1", chunks=(1024,))


def _absurd_powers(name):
    def damage(file):
        del file[f"frame/{name}"]
        file["frame"].create_dataset(name, shape=(10**13,), dtype="f8", chunks=(1024,))

    return damage


def _absurd_network(file):
    """Both power vectors, of the same absurd length."""
    _absurd_powers("pilot_power")(file)
    _absurd_powers("data_power")(file)


def _many_nodes(file):
    for i in range(70):
        file["nodes"][f"node{i}"] = file["nodes/bs1"]  # links: a small file of many large nodes


DAMAGES = {
    "absurd samples": _absurd_iq,
    "absurd frame": _absurd_frame,
    "absurd pilot powers": _absurd_powers("pilot_power"),
    "absurd data powers": _absurd_powers("data_power"),
    "absurd powers": _absurd_network,
    "pilot powers of two nodes": _replace("frame/pilot_power", np.ones(2)),
    "a data power for all": _replace("frame/data_power", np.float64(1.0)),
    "data powers in a matrix": _replace("frame/data_power", np.ones((3, 1))),
    "powers as text": _replace("frame/pilot_power", np.array([b"1", b"1", b"1"])),
    "a frame of two nodes": _replace("frame/samples", np.ones((2, 640), np.complex128)),
    "a frame without an axis of nodes": _replace("frame/samples", np.ones(3, np.complex128)),
    "a frame of one number": _replace("frame/samples", np.complex128(1)),
    "a frame without samples": _replace("frame/samples", np.ones((3, 0), np.complex128)),
    "a frame in single precision": _replace("frame/samples", np.ones((3, 640), np.complex64)),
    "names of two nodes": _attribute("/", "isac:tx_names", b'["bs1", "bs2"]'),
    "names in one text": _attribute("/", "isac:tx_names", b'"bs1"'),
    "attempts in a table": _replace("nodes/bs1/attempts", np.ones(2, np.uint32)),
    "attempts as text": _replace("nodes/bs1/attempts", np.array([b"one"])),
    "notices of other columns": _replace("nodes/bs1/notices", np.arange(3)),
    "a notice of another kind": _replace("nodes/bs1/notices", np.array([(1, b"storm", 0, 0, b"")], NOTICE_TABLE)),
    "a notice that is no text": _replace("nodes/bs1/notices", np.array([(1, b"\xff", 0, 0, b"")], NOTICE_TABLE)),
    "a single notice": _replace("nodes/bs1/notices", np.array((1, b"lost", 0, 0, b""), NOTICE_TABLE)),
    "absurd loss record": _absurd_table,
    "absurd document": _absurd_document,
    "70 nodes": _many_nodes,
    "no nodes": _delete("nodes"),
    "no setup": _delete("setup"),
    "no samples": _delete("nodes/bs1/iq"),
    "no loss record": _delete("nodes/bs1/chunks"),
    "no powers": _delete("frame/pilot_power"),
    "nodes that are a table": _replace("nodes", np.arange(3)),
    "samples of floats": _replace("nodes/bs1/iq", np.zeros((1, 10, 2))),
    "samples of another shape": _replace("nodes/bs1/iq", np.zeros((1, 10), np.int16)),
    "samples of two channels": _replace("nodes/bs1/iq", np.zeros((2, 10, 2), np.int16)),
    "a loss record of other columns": _replace("nodes/bs1/chunks", np.arange(3)),
    "a setup that is no JSON": _replace("setup", np.bytes_(b"{")),
    "a setup that is a list": _replace("setup", np.bytes_(b"[]")),
    "an experiment of bytes": _replace("experiment", np.bytes_(b"\xff\xfe")),
    "limits of other fields": _attribute("nodes/bs1", "isac:limits", b'{"model": "x"}'),
    "settings that are text": _attribute("nodes/bs1", "isac:settings", b'"fast"'),
    "settings of text": _attribute("nodes/bs1", "isac:settings", b"carrier"),
    "a noise variance below zero error": _attribute(
        "nodes/bs1", "isac:noise_var", b'{"value": 1, "stderr": -1, "count": 0}'
    ),
    "names that are a number": _attribute("/", "isac:tx_names", 7.5),
    "a layout that is text": _attribute("/", "isac:layout", b"one"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_refused_in_one_line_without_much_memory(stored, damage):
    with h5py.File(stored, "r+") as file:
        damage(file)

    tracemalloc.start()
    try:
        refused(stored)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 50e6


def test_a_dataset_that_claims_more_than_the_file_is_named_with_both_sizes(stored):
    with h5py.File(stored, "r+") as file:
        _absurd_iq(file)

    assert f"/nodes/bs1/iq: claims {4 << 45} bytes of a file of {stored.stat().st_size}" in refused(stored)


@pytest.mark.parametrize("name", ["pilot_power", "data_power", "samples"])
def test_a_frame_that_does_not_fit_its_transmitters_is_refused_with_both_shapes(stored, name):
    with h5py.File(stored, "r+") as file:
        whole = file[f"frame/{name}"][()]
        _replace(f"frame/{name}", whole[:2])(file)

    found, allowed = ("(2, 640)", "(3, 640)") if name == "samples" else ("(2,)", "(3,)")
    message = refused(stored)
    assert f"frame/{name}: " in message
    assert found in message
    if name != "samples":
        assert f"must be float64 {allowed}, a row for each of the 3 names" in message


def test_a_file_of_links_to_one_node_is_refused_by_their_number(stored):
    with h5py.File(stored, "r+") as file:
        _many_nodes(file)

    assert "73 nodes; at most 64" in refused(stored)


def test_a_changed_frame_is_refused(stored):
    # X and D are built from it
    with h5py.File(stored, "r+") as file:
        file["frame/samples"][1, 17] *= 1 + 1e-12

    assert "frame: samples differ from their hash" in refused(stored)


def test_bytes_flipped_anywhere_are_refused_found_or_harmless(stored):
    # 300 files with 1 to 20 random bytes, most among the structures: whatever HDF5 raises comes as a CaptureError
    whole = stored.read_bytes()
    rng = np.random.default_rng(1)
    outcomes = {"refused": 0, "read": 0}
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(int(rng.integers(1, 20))):
            damaged[int(rng.integers(60_000 if rng.random() < 0.8 else len(whole)))] = int(rng.integers(256))
        stored.write_bytes(damaged)
        try:
            load(stored)
            outcomes["read"] += 1
        except CaptureError as exc:
            assert "\n" not in str(exc)
            outcomes["refused"] += 1
    assert outcomes["refused"] > 100


# Access


def test_a_node_that_is_not_there_is_named_with_those_that_are(capture):
    with pytest.raises(CaptureError, match="node 'bs9': not in this capture; it holds bs1, bs2, bs3"):
        capture.node("bs9")
    nothing = Capture("all", (), None, (), {}, {}, True)
    with pytest.raises(CaptureError, match="it holds none"):
        nothing.node("bs1")


def test_a_node_capture_counts_its_samples():
    node = capture_comp(num_frames=1).nodes[0]

    assert isinstance(node, NodeCapture)
    assert node.num_samples == 2 * 640
