"""Bundles: what travels of a spec's folder, and that a hostile bundle can't do more than be refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from specs import spec, text_spec, write_spec

from logist.errors import ExtraMissing, InvalidFile, StorageFailed, UsageProblem
from logist.models.stored import BundledFile, BundledLink, BundleManifest, StoredOutput
from logist.render.output_file import written_beside
from logist.render.private_folder import private_folder
from logist.render.verify import Expected, verify
from logist.spec_bundles import bundle_of, make_bundle
from logist.spec_files import LoadedSpec, load_spec
from logist.storage.bundles import (
    Bundle,
    blob_name,
    manifest_name,
    missing_files,
    problem_of,
    read_bundle,
    upload_bundle,
)
from logist.storage.cache import Blob, Cache
from logist.storage.objects import Canceled, Storage, open_storage, storage_url
from logist.storage.outputs import OutputPlace, bring, publish
from logist.storage.unpacking import unpack

TEXT = b"hello\n"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def storage() -> Iterator[Storage]:
    name = f"memory://{os.urandom(8).hex()}"
    yield open_storage(name)
    open_storage("memory://")._system.store.clear()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    folder = tmp_path / "film"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<p>film</p>")
    (folder / "assets" / "sound.wav").write_bytes(bytes(1000))
    (folder / "make.sh").write_text("#!/bin/sh\n")
    (folder / "make.sh").chmod(0o755)
    (folder / "again.wav").symlink_to("assets/sound.wav")
    write_spec(folder, text_spec(2))
    return folder


def load(folder: Path) -> LoadedSpec:
    return load_spec("job.json", trust=False, allow_outside=False, stdin=lambda: pytest.fail("read"), cwd=folder)


def names(bundle: Bundle) -> list[str]:
    return [entry.path for entry in (*bundle.manifest.files, *bundle.manifest.links)]


def put(storage: Storage, manifest: dict[str, Any]) -> str:
    """A bundle as a stranger may have made it: what its files hold is there, whatever else is wrong."""
    document = json.dumps(manifest).encode()
    storage.write(blob_name(sha256(TEXT)), TEXT)
    storage.write(manifest_name(sha256(document)), document)
    return sha256(document)


def file(path: str, **changes: Any) -> dict[str, Any]:
    return {"path": path, "sha256": sha256(TEXT), "size": len(TEXT), **changes}


def manifest(*files: dict[str, Any], links: Any = (), **changes: Any) -> dict[str, Any]:
    return {
        "logist_bundle": 1,
        "spec": "job.json",
        "files": [file("job.json"), *files],
        "links": list(links),
        **changes,
    }


# --- What is a storage ---------------------------------------------------------------------------------------------


def test_a_path_means_a_folder_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage_url("store") == f"file://{tmp_path}/store"
    assert storage_url("S3://bucket/folder/") == "s3://bucket/folder"


@pytest.mark.parametrize(
    "url",
    [
        "s3://KEY:hunter2@bucket/folder",
        "s3://KEY:hun/ter2@bucket",
        "https://user:hunter2@host/folder",
        "https://hunter2@host/folder",
        "https://host/folder?signature=hunter2",
        "s3://bucket/folder?X-Amz-Signature=hunter2",
        "simplecache::s3://KEY:hunter2@bucket",
        "file://folder",
        "two::hunter2",
        "",
    ],
)
def test_a_url_with_a_secret_in_it_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageProblem) as refused:
        open_storage(url)
    assert "ter2" not in refused.value.message + refused.value.hint


def test_an_unknown_kind_of_storage_is_refused() -> None:
    with pytest.raises(UsageProblem, match="nonsense:// is no storage"):
        open_storage("nonsense://place")


def test_a_library_that_is_not_there_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    with pytest.raises(ExtraMissing) as missing:
        open_storage("gs://bucket")
    assert missing.value.hint == "pip install 'logist[gcs]'"


def test_a_place_of_the_web_can_only_be_read(film: Path) -> None:
    with pytest.raises(UsageProblem, match="can only be read"):
        make_bundle(load(film), open_storage("https://example.invalid/folder"))


# --- What travels --------------------------------------------------------------------------------------------------


def test_a_bundle_is_of_the_content_alone(film: Path, tmp_path: Path, storage: Storage) -> None:
    first = bundle_of(load(film), storage)
    shutil.copytree(film, tmp_path / "copy", symlinks=True)
    os.utime(tmp_path / "copy" / "index.html", (1, 1))
    assert bundle_of(load(tmp_path / "copy"), storage) == first
    (film / "index.html").write_text("<p>other</p>")
    assert bundle_of(load(film), storage).sha256 != first.sha256


def test_what_a_spec_makes_and_what_is_ignored_stays(film: Path, storage: Storage) -> None:
    before = bundle_of(load(film), storage)
    assert names(before) == ["assets/sound.wav", "index.html", "job.json", "make.sh", "again.wav"]
    for name in ("out.0.txt", ".out.1.txt.unfinished", ".out.1.failed.txt", "all.txt"):
        (film / name).touch()
    for folder in (".logist", ".git", "node_modules/.git", "empty"):
        (film / folder).mkdir(parents=True)
        if folder != "empty":
            (film / folder / "state").touch()
    assert bundle_of(load(film), storage) == before
    (film / "notes").mkdir()
    (film / "notes" / "draft.md").touch()
    (film / ".logistignore").write_text("*.wav\nnotes/\n*.json\n")
    assert names(bundle_of(load(film), storage)) == [".logistignore", "index.html", "job.json", "make.sh"]


def test_a_bundle_that_is_there_is_not_uploaded_again_and_what_two_have_in_common_is_there_once(
    film: Path, storage: Storage
) -> None:
    assert len(make_bundle(load(film), storage).missing) == 4
    there = storage.names("")
    assert make_bundle(load(film), storage).missing == ()
    assert storage.names("") == there
    (film / "index.html").write_text("<p>other</p>")
    changed = make_bundle(load(film), storage)
    assert [each.path for each in changed.missing] == ["index.html"]
    storage.remove(blob_name(changed.missing[0].sha256))
    assert make_bundle(load(film), storage, thorough=True).missing == changed.missing
    assert storage.size(blob_name(changed.missing[0].sha256)) == len("<p>other</p>")


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../outside", "assets/../../outside", "a/../../film/index.html", "."]
)
def test_a_link_that_may_lead_out_is_refused_by_its_name(film: Path, storage: Storage, target: str) -> None:
    (film / "assets" / "link").symlink_to(target if target != "../outside" else "../../outside")
    if target == ".":
        assert "assets/link" in names(bundle_of(load(film), storage))
        return
    with pytest.raises(UsageProblem, match="assets/link"):
        bundle_of(load(film), storage)


def test_what_is_no_file_is_refused_and_not_waited_for(film: Path, storage: Storage) -> None:
    os.mkfifo(film / "pipe")
    with pytest.raises(UsageProblem, match="pipe is neither a file nor a folder"):
        bundle_of(load(film), storage)


def test_what_is_being_made_or_was_left_half_made_stays(film: Path, storage: Storage) -> None:
    before = bundle_of(load(film), storage)
    with (
        written_beside(film / "out.0.txt") as beside,
        private_folder(film, ".all.mp4.logist-render-") as parts,
    ):
        beside.write_text("half")
        (parts / "part").touch()
        assert bundle_of(load(film), storage) == before


def test_outputs_behind_a_link_are_refused(film: Path, storage: Storage) -> None:
    (film / "out").symlink_to("assets")
    write_spec(film, spec(["true"], outputs=["out/a.txt"]))
    with pytest.raises(UsageProblem, match="outputs lie in out, which is a link"):
        bundle_of(load(film), storage)


def test_of_a_file_that_grows_while_it_is_read_the_size_is_of_what_was_read(
    film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.file_digest

    def grows(opened: Any, name: str) -> Any:
        with Path(opened.name).open("ab") as end:
            end.write(b"and more")
        return digest(opened, name)

    monkeypatch.setattr("hashlib.file_digest", grows)
    bundle = read_bundle(film, "job.json", ())
    assert [(each.path, each.size) for each in bundle.manifest.files] == [
        (each.path, (film / each.path).stat().st_size) for each in bundle.manifest.files
    ]


def test_a_name_that_is_no_text_is_refused(film: Path, storage: Storage) -> None:
    (film / os.fsdecode(b"\xff")).touch()
    with pytest.raises(UsageProblem, match="not UTF-8"):
        bundle_of(load(film), storage)


def test_folders_in_folders_without_end_are_refused(film: Path, storage: Storage) -> None:
    (film / "/".join("d" * 110)).mkdir(parents=True)
    with pytest.raises(UsageProblem, match="more than 100 deep"):
        bundle_of(load(film), storage)


def test_inputs_that_would_not_be_found_elsewhere_are_refused(tmp_path: Path, film: Path, storage: Storage) -> None:
    (tmp_path / "outside.txt").touch()
    (tmp_path / "by-link").symlink_to("film")
    for command, extra, named in (
        ("cat ../outside.txt > out", {}, r"\.\./outside\.txt"),
        (f"cat {film}/index.html > out", {}, "film/index.html"),
        ("true", {"inputs": ["../outside.txt"]}, r"\.\./outside\.txt"),
        (f"logist render {tmp_path}/outside.txt -o out", {}, "outside.txt"),
        (f"logist render file://{film}/index.html -o out", {}, "film/index.html"),
        (f"cat {tmp_path}/by-link/index.html > out", {}, "by-link/index.html"),
        (f"echo {film}/{'n' * 300}; cat {film}/index.html > out", {}, "film/index.html"),
    ):
        write_spec(film, spec([command], outputs=["out"], **extra))
        with pytest.raises(UsageProblem, match=named):
            bundle_of(load(film), storage)
    # A program is named by where it is on every machine.
    write_spec(film, spec(["/bin/cat index.html > out"], outputs=["out"]))
    bundle_of(load(film), storage)


@pytest.mark.parametrize("place", [".", "store", "../by-link/store"])
def test_a_storage_in_the_specs_own_folder_is_refused(film: Path, place: str) -> None:
    (film.parent / "by-link").symlink_to("film")
    with pytest.raises(UsageProblem, match="the spec's own folder"):
        bundle_of(load(film), open_storage(str(film / place)))


@pytest.mark.parametrize("url", ["s3://bucket/folder", "memory://folder", "/film-store", "../film-store"])
def test_a_storage_elsewhere_is_none_of_the_folder_that_one_stands_in(
    film: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(film)
    bundle_of(load(film), open_storage(url))


def test_a_file_that_is_written_while_it_is_uploaded_leaves_nothing_under_a_wrong_name(
    film: Path, storage: Storage
) -> None:
    bundle = read_bundle(film, "job.json", ())
    missing = missing_files(storage, bundle)
    (film / "index.html").write_text("<p>late</p>")
    with pytest.raises(InvalidFile, match=r"index\.html was changed"):
        upload_bundle(storage, bundle, missing, film)
    changed = next(each for each in missing if each.path == "index.html")
    assert storage.size(blob_name(changed.sha256)) is None
    assert storage.size(manifest_name(bundle.sha256)) is None


def test_a_file_that_was_written_before_its_upload_takes_nothing_away_that_another_one_uploaded(
    film: Path, storage: Storage
) -> None:
    bundle = read_bundle(film, "job.json", ())
    missing = missing_files(storage, bundle)
    page = next(each for each in missing if each.path == "index.html")
    storage.write(blob_name(page.sha256), b"<p>film</p>")
    (film / "index.html").write_text("<p>late</p>")
    with pytest.raises(InvalidFile, match=r"index\.html was changed"):
        upload_bundle(storage, bundle, missing, film)
    assert storage.size(blob_name(page.sha256)) == page.size


# --- Unpacking -----------------------------------------------------------------------------------------------------


def test_what_was_bundled_is_what_is_unpacked(film: Path, tmp_path: Path, storage: Storage, cache: Cache) -> None:
    made = make_bundle(load(film), storage)
    folder = tmp_path / "there"
    folder.mkdir()
    unpack(storage, made.bundle.sha256, cache, folder)
    assert read_bundle(folder, "job.json", ()) == made.bundle
    assert (folder / "again.wav").readlink() == Path("assets/sound.wav")
    assert os.access(folder / "make.sh", os.X_OK)
    assert not os.access(folder / "index.html", os.X_OK)


def test_a_worker_that_changes_its_files_does_not_harm_the_next(
    film: Path, tmp_path: Path, storage: Storage, cache: Cache
) -> None:
    made = make_bundle(load(film), storage)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        unpack(storage, made.bundle.sha256, cache, tmp_path / name)
        assert (tmp_path / name / "index.html").read_text() == "<p>film</p>"
        (tmp_path / name / "index.html").write_text("spoiled")


def test_what_was_damaged_or_removed_in_the_cache_is_fetched_again(
    film: Path, tmp_path: Path, storage: Storage, cache: Cache
) -> None:
    made = make_bundle(load(film), storage)
    (tmp_path / "first").mkdir()
    unpack(storage, made.bundle.sha256, cache, tmp_path / "first")
    blobs = sorted((tmp_path / "cache").glob("blobs/*/*"))
    assert len(blobs) == 5
    blobs[0].unlink()
    for blob in blobs[1:]:
        blob.write_bytes(b"damaged")
    (tmp_path / "second").mkdir()
    unpack(storage, made.bundle.sha256, cache, tmp_path / "second")
    assert read_bundle(tmp_path / "second", "job.json", ()) == made.bundle


@pytest.mark.parametrize("data", [b"HELLO\n", b"hell", b"hello and more"])
def test_an_object_that_is_not_what_its_name_says_is_refused(
    tmp_path: Path, storage: Storage, cache: Cache, data: bytes
) -> None:
    bundle = put(storage, manifest())
    storage.write(blob_name(sha256(TEXT)), data)
    with pytest.raises(StorageFailed, match="its content is not what its name says"):
        unpack(storage, bundle, cache, tmp_path)
    assert not (tmp_path / "job.json").exists()
    assert [blob.name for blob in (tmp_path / "cache").glob("blobs/*/*")] == [bundle]


def test_a_bundle_that_is_not_there_says_so(tmp_path: Path, storage: Storage, cache: Cache) -> None:
    with pytest.raises(StorageFailed, match=f"has no bundles/{'0' * 64}"):
        unpack(storage, "0" * 64, cache, tmp_path)


def test_a_bundle_that_has_no_room_is_not_begun(tmp_path: Path, storage: Storage, cache: Cache) -> None:
    bundle = put(storage, manifest(file("huge", size=10**15, sha256="0" * 64)))
    with pytest.raises(StorageFailed, match="needs 1000000000000006 bytes"):
        unpack(storage, bundle, cache, tmp_path)


def test_two_workers_of_a_machine_fetch_a_bundle_once(
    film: Path, tmp_path: Path, storage: Storage, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_bundle(load(film), storage)
    fetched: list[str] = []
    fetch = Storage.fetch

    def counted(self: Storage, name: str, *rest: Any) -> str | None:
        fetched.append(name)
        return fetch(self, name, *rest)

    monkeypatch.setattr(Storage, "fetch", counted)
    folders = [tmp_path / str(number) for number in range(3)]
    workers = [
        threading.Thread(target=unpack, args=(storage, made.bundle.sha256, Cache(tmp_path / "cache"), folder))
        for folder in folders
    ]
    with cache.held(made.bundle.sha256):
        for folder, worker in zip(folders, workers, strict=True):
            folder.mkdir()
            worker.start()
        assert fetched == []
    for worker in workers:
        worker.join()
    assert len(fetched) == len(set(fetched)) == 5
    assert all(read_bundle(folder, "job.json", ()) == made.bundle for folder in folders)


def test_the_cache_drops_what_was_not_used_for_longest(tmp_path: Path, storage: Storage, cache: Cache) -> None:
    blobs = []
    for number in range(4):
        data = bytes([number]) * 100
        storage.write(f"blobs/{number}", data)
        blobs.append(Blob(f"blobs/{number}", sha256(data), 100))
        cache.fetch(storage, blobs[-1])
        place = tmp_path / "cache" / "blobs" / blobs[-1].sha256[:2] / blobs[-1].sha256
        os.utime(place, (number, number))
    assert cache.copy(blobs[1], tmp_path / "used", 0o600)
    cache.make_room({blobs[0], Blob("new", "f" * 64, 100)}, limit=300)
    assert [cache.read(blob) is not None for blob in blobs] == [True, True, False, False]


def test_the_cache_makes_room_on_a_disk_that_is_full_before_it_fetches(
    tmp_path: Path, storage: Storage, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(100)
    old, new = Blob("old", sha256(data), 100), Blob("new", "1" * 64, 100)
    storage.write("old", data)
    cache.fetch(storage, old)
    free = 200
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1000, 0, free))
    cache.make_room({new})
    assert cache.read(old) == data
    free = 199
    cache.make_room({new})
    assert cache.read(old) is None


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_cache_that_others_can_write_is_not_used(tmp_path: Path, storage: Storage, cache: Cache, mode: int) -> None:
    bundle = put(storage, manifest())
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(mode)
    (tmp_path / "there").mkdir()
    with pytest.raises(StorageFailed, match="others can write to"):
        unpack(storage, bundle, cache, tmp_path / "there")


def test_a_link_in_the_cache_that_leads_nowhere_is_not_written_through(
    tmp_path: Path, storage: Storage, cache: Cache
) -> None:
    bundle = put(storage, manifest())
    place = tmp_path / "cache" / "blobs" / sha256(TEXT)[:2] / sha256(TEXT)
    place.parent.mkdir(parents=True)
    (tmp_path / "cache").chmod(0o700)
    place.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "there").mkdir()
    unpack(storage, bundle, cache, tmp_path / "there")
    assert (tmp_path / "there" / "job.json").read_bytes() == TEXT
    assert not (tmp_path / "elsewhere").exists()
    assert len(list(place.parent.iterdir())) == 1


# --- Strangers' bundles --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "evil",
    [
        manifest(file("../out")),
        manifest(file("/etc/cron.d/evil")),
        manifest(file("a/../../out")),
        manifest(file("a//b")),
        manifest(file("./a")),
        manifest(file("")),
        manifest(file("a\0b")),
        manifest(file("n" * 256)),
        manifest(file("/".join("d" * 2000))),
        manifest(file("job.json")),
        manifest(file("a"), file("a/b")),
        manifest(file("link/b"), links=[{"path": "link", "target": "a"}]),
        manifest(links=[{"path": "link", "target": "/etc"}]),
        manifest(links=[{"path": "link", "target": "../etc"}]),
        manifest(links=[{"path": "a/link", "target": "../../etc"}]),
        manifest(links=[{"path": "up", "target": "."}, {"path": "link", "target": "up/../etc"}]),
        manifest(links=[{"path": "link", "target": ""}]),
        manifest(links=[{"path": "link", "target": "a\0"}]),
        manifest(links=[{"path": "job.json", "target": "a"}]),
        manifest(spec="other.json"),
        manifest(file("a", sha256="../../etc/passwd")),
        manifest(file("a", size=-1)),
        manifest(file("a", size=10**4299)),
        manifest(file(".git/config")),
        manifest(file("a/.logist/job.json/history.jsonl")),
        manifest(links=[{"path": ".git", "target": "a"}]),
        manifest(file("a", mode=0o4755)),
        manifest(devices=["/dev/sda"]),
        manifest(logist_bundle=2),
        {},
        [],
        "x",
    ],
)
def test_an_evil_bundle_is_refused_and_writes_nothing(
    tmp_path: Path, storage: Storage, cache: Cache, evil: Any
) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    with pytest.raises(InvalidFile, match="not a bundle that may be unpacked"):
        unpack(storage, put(storage, evil), cache, folder)
    assert not list(folder.iterdir())


def test_a_bundle_without_end_is_refused(tmp_path: Path, storage: Storage, cache: Cache) -> None:
    entry = BundledFile(path="job.json", sha256=sha256(TEXT), size=1)
    many = BundleManifest.model_construct(spec="job.json", files=(entry,) * 100_001, links=())
    assert problem_of(many) == "it holds more than 100000 files"


_PARTS = st.sampled_from(["a", "b", "c", "..", ".", "", "job.json", "/"])
_PATHS = st.lists(_PARTS, min_size=1, max_size=5).map("/".join)
_LINKS = st.builds(BundledLink, path=_PATHS, target=_PATHS)
_FILES = st.builds(BundledFile, path=_PATHS, sha256=st.just(sha256(TEXT)), size=st.just(len(TEXT)))


@given(files=st.lists(_FILES, max_size=4), links=st.lists(_LINKS, max_size=4))
def test_no_bundle_reaches_out_of_its_folder(
    tmp_path_factory: pytest.TempPathFactory, files: list[BundledFile], links: list[BundledLink]
) -> None:
    storage = open_storage("memory://property")
    top = tmp_path_factory.mktemp("property")
    folder = top / "x" / "y"
    folder.mkdir(parents=True)
    whole = [BundledFile(path="job.json", sha256=sha256(TEXT), size=len(TEXT)), *files]
    made = BundleManifest(spec="job.json", files=tuple(whole), links=tuple(links))
    try:
        unpack(storage, put(storage, made.model_dump()), Cache(top / "cache"), folder)
    except InvalidFile:
        assert not list(folder.iterdir())
    else:
        assert {path.name for path in top.iterdir()} == {"x", "cache"}
        assert [path.name for path in (top / "x").iterdir()] == ["y"]
        for entry in folder.rglob("*"):
            # What leads in a circle leads nowhere.
            place = os.path.realpath(entry)
            assert place == str(folder) or place.startswith(f"{folder}/")
    finally:
        shutil.rmtree(top)


# --- What may go wrong with a storage ------------------------------------------------------------------------------


def test_an_output_that_is_brought_stops_when_it_is_told_to_and_leaves_nothing(
    tmp_path: Path, storage: Storage
) -> None:
    made = tmp_path / "made.txt"
    made.write_bytes(TEXT)
    place = OutputPlace(storage, "0" * 64, 3)
    output = verify(made, "made.txt", Expected(1)).output
    assert output is not None
    publish(place, "first", output)
    (tmp_path / "here").mkdir()
    with pytest.raises(Canceled, match="enough"):
        bring(place, "first", tmp_path / "here" / "out.txt", lambda: "enough")
    assert not list((tmp_path / "here").iterdir())
    assert bring(place, "first", tmp_path / "here" / "out.txt") == ""
    assert (tmp_path / "here" / "out.txt").read_bytes() == TEXT


@pytest.mark.parametrize("record", [b"{}", b"no JSON", b'{"bundle": "1"}', b"x" * 1000])
def test_a_record_that_is_none_is_no_output(tmp_path: Path, storage: Storage, record: bytes) -> None:
    place = OutputPlace(storage, "0" * 64, 3)
    storage.write(place.record("evil"), record)
    assert bring(place, "evil", tmp_path / "out.txt") == f"{place.record('evil')} is no record of an output"
    other = StoredOutput(bundle="0" * 64, chunk=4, attempt="evil", sha256=sha256(TEXT), size=6)
    storage.write(place.record("evil"), other.model_dump_json().encode())
    assert bring(place, "evil", tmp_path / "out.txt").endswith("is the record of something else")
    assert not list(tmp_path.iterdir())


def test_a_fault_of_this_machines_disk_is_not_taken_for_one_of_the_storage(tmp_path: Path, storage: Storage) -> None:
    storage.write("object", TEXT)
    with pytest.raises(StorageFailed, match=r"could not write .*gone/file: No such file"):
        storage.fetch("object", tmp_path / "gone" / "file", 100)


class Flaky:
    """A file system that fails a few times before it answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.asked = 0

    def info(self, _path: str) -> dict[str, int]:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return {"size": 7}


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Storage]:
    monkeypatch.setattr("logist.storage.objects.BACKOFF_START", 0.001)
    return lambda *errors: Storage("s3://bucket", Flaky(*errors), "bucket")


class NoCredentialsError(Exception):
    """As botocore's, which has no base but Exception."""


def test_what_fails_for_a_while_is_asked_again(flaky: Callable[..., Storage]) -> None:
    assert flaky(TimeoutError(), OSError("slow down"), ConnectionResetError()).size("name") == 7


def test_what_keeps_failing_ends_with_the_reason_and_without_secrets(flaky: Callable[..., Storage]) -> None:
    storage = flaky(*[OSError("no answer from https://me:hunter2@host/x?sig=hunter2 now")] * 4)
    with pytest.raises(StorageFailed) as failed:
        storage.size("name")
    assert failed.value.message == (
        "could not look for name at s3://bucket: OSError: no answer from https://host/x now"
    )


@pytest.mark.parametrize(
    ("error", "what", "hint"),
    [
        (PermissionError("Forbidden"), "it is not permitted", "check the credentials"),
        (NoCredentialsError("Unable to locate credentials"), "there are no credentials for it", "AWS_PROFILE"),
        (NotImplementedError(), "that kind of storage can't", "name another storage"),
    ],
)
def test_what_lasts_is_asked_once(flaky: Callable[..., Storage], error: Exception, what: str, hint: str) -> None:
    storage = flaky(error)
    with pytest.raises(StorageFailed, match=what) as failed:
        storage.size("name")
    assert storage._system.asked == 1
    assert hint in failed.value.hint
