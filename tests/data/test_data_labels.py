"""Labels of one's own: folders as classes, files of tags, and what is asked of a generator."""

import json
import logging
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from jaxgan.data import DataError, load, load_conditions, parse_labels
from jaxgan.data.label_files import read_labels
from jaxgan.data.spec import DataSpec

FILES = ("a.png", "b.png", "more/c.png", "more/d.png")
TAGS = {
    "more/c.png": ["red", "blue"],
    "a.png": ["blue"],
    "b.png": [],
    "more/d.png": ["green", "red"],
}
VECTORS = [[1, 0, 0], [0, 0, 0], [1, 0, 1], [0, 1, 1]]  # blue, green, red


def write_pictures(root, files=FILES):
    for i, file in enumerate(files):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(root / file)
    return root


def packed(folder, target, top=""):
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, top + str(path.relative_to(folder)))
    return target


def csv_of(tags, top=""):
    return "".join(f"{','.join([top + file, *some])}\n" for file, some in tags.items())


@pytest.fixture
def pictures(tmp_path):
    """Picture number i of FILES is all of gray i."""
    return write_pictures(tmp_path / "pictures")


@pytest.fixture
def load_it(tmp_path):
    def load_folder(data_dir, labels, **settings):
        settings = {"image_size": 8, "cache_dir": tmp_path / "cache"} | settings
        return load("folder", data_dir=data_dir, tags=labels, **settings)

    return load_folder


@pytest.fixture
def tags_csv(tmp_path):
    path = tmp_path / "tags.csv"
    path.write_text(csv_of(TAGS))
    return path


def grays(dataset):
    return dataset.images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("header", ["", "file,tag_1,tag_2\n", "\ufeffFile , first\n\n"])
@pytest.mark.parametrize("top", ["", "faces/"])
def test_a_csv_labels_a_folder_and_a_zip(pictures, load_it, tmp_path, header, top):
    path = tmp_path / "tags.csv"
    path.write_text(header + csv_of(TAGS).replace("red,", "red,, "), encoding="utf-8")
    fingerprints = set()
    for root in (pictures, packed(pictures, tmp_path / "pictures.zip", top)):
        dataset = load_it(root, path)
        assert dataset.spec == ("folder", 8, 1, "tags", ("blue", "green", "red"), False)
        assert grays(dataset) == [0, 1, 2, 3] and dataset.labels.dtype == np.float32
        np.testing.assert_array_equal(dataset.labels, VECTORS)
        fingerprints.add(dataset.fingerprint)
    assert len(fingerprints) == 1


def test_names_may_have_the_common_top_folder(pictures, load_it, tmp_path):
    path = tmp_path / "tags.json"
    path.write_text(json.dumps({f"faces/{file}": tags for file, tags in TAGS.items()}))
    root = packed(pictures, tmp_path / "pictures.zip", "faces/")
    np.testing.assert_array_equal(load_it(root, path).labels, VECTORS)


@pytest.mark.parametrize("place", ["pictures", "."])
def test_a_json_is_found_beside_the_pictures(pictures, load_it, tmp_path, place):
    (tmp_path / place / "tags.json").write_text(json.dumps(TAGS))
    np.testing.assert_array_equal(load_it(pictures, "tags.json").labels, VECTORS)


@pytest.mark.parametrize("packed_as", [None, "", "faces/"])
def test_folders_are_classes(load_it, tmp_path, packed_as):
    root = write_pictures(tmp_path / "pictures", ["cat/1.png", "cat/old/2.png", "ant/3.png"])
    (root / ".hidden").mkdir()
    if packed_as is not None:
        root = packed(root, tmp_path / "pictures.zip", packed_as)
    dataset = load_it(root, "folders")
    assert dataset.spec[3:5] == ("class", ("ant", "cat")) and grays(dataset) == [2, 0, 1]
    np.testing.assert_array_equal(dataset.labels, [[1, 0], [0, 1], [0, 1]])
    held = load_it(root, "folders", holdout=0.5)
    assert 0 < len(held) < 3 and held.spec == dataset.spec


def test_labels_stay_with_their_pictures(load_it, tmp_path):
    files = [f"{i}.png" for i in range(10, 30)]
    root = write_pictures(tmp_path / "pictures", files)
    (root / "13.png").write_bytes(b"")
    path = tmp_path / "tags.csv"
    path.write_text("".join(f"{file},bit{i % 2},bit{2 + i % 3}\n" for i, file in enumerate(files)))
    seen = []
    for split in ("train", "holdout"):
        part = load_it(root, path, split=split, holdout=0.4, skip_corrupt=True)
        assert len(part) == len(part.labels) > 0
        seen += grays(part)
        for gray, label in zip(grays(part), part.labels, strict=True):
            assert label.nonzero()[0].tolist() == [gray % 2, 2 + gray % 3]
    assert sorted(seen) == [i for i in range(20) if i != 3]
    few = load_it(root, path, num_examples=4, skip_corrupt=True)
    assert few.labels.shape == (4, 5)


def test_other_tags_change_the_fingerprint_and_need_no_new_pixels(
    pictures, load_it, tags_csv, tmp_path
):
    def prepared_sets():
        return [(path.name, path.stat().st_ino) for path in sorted((tmp_path / "cache").iterdir())]

    bare = load_it(pictures, None)
    before = prepared_sets()
    first = load_it(pictures, tags_csv)
    tags_csv.write_text(csv_of(TAGS | {"b.png": ["green"]}))
    other = load_it(pictures, tags_csv)
    tags_csv.write_text(csv_of(TAGS).replace("green", "grun"))
    renamed = load_it(pictures, tags_csv)
    tags_csv.write_text("file,colors\n" + csv_of(dict(reversed(TAGS.items()))))
    again = load_it(pictures, tags_csv)
    assert len({d.fingerprint for d in (bare, first, other, renamed)}) == 4
    assert again.fingerprint == first.fingerprint
    assert prepared_sets() == before


BAD_CSV = {
    "": "is empty; write",
    ",,\n , \n": "is empty; write",
    'a.png,"red\n': "is not CSV",
    "a.png,red\n,blue\n": "has a line without a file, 'blue'",
    "a.png,red\na.png,blue\n": "names 'a.png' twice",
    csv_of(TAGS) + "e.png,red\nf.png,red\n": "2 of 6 files named in .* first 'e.png'",
    csv_of({"a.png": ["red", "blue"]}): "3 of 4 pictures are not named in .*, the first 'b.png'",
    csv_of(dict.fromkeys(FILES, ["red"])): "has only the label 'red'; with fewer than two",
    csv_of(dict.fromkeys(FILES, [])): "has no label; with fewer than two",
}
BAD_JSON = {
    "": "is empty; write",
    '{"a.png": [': "is not JSON",
    '{"a.png": [], "a.png": []}': "'a.png' is there twice",
    '[["red"]]': "1 of 1 files named in .* the first 'red'; .* column of files by tags='tags",
    '["red"]': "must be an object .*, not .*red",
    '{"a.png": [[]]}': r"must give a name or a list of names for a.png, not \[\[\]\]",
    '{"a.png": 1.5}': "must give a name or a list of names for a.png, not 1.5",
    '[{"picture": "a.png"}, 3]': "must be an object .* list of objects .*, not 3",
    '[{"photo": "a.png"}]': "no column of files, such as 'file', but photo; name it by tags='tags",
}


@pytest.mark.parametrize(
    ("ending", "text", "words"),
    [("csv", *case) for case in BAD_CSV.items()] + [("json", *case) for case in BAD_JSON.items()],
)
def test_bad_files_of_tags_are_refused(pictures, load_it, tmp_path, ending, text, words):
    path = tmp_path / f"tags.{ending}"
    path.write_text(text)
    with pytest.raises(DataError, match=words) as error:
        load_it(pictures, path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_picture_named_with_and_without_its_top_folder_is_refused(load_it, tmp_path):
    root = write_pictures(tmp_path / "pictures", ["x/a.png", "x/b.png"])
    (tmp_path / "tags.csv").write_text("x/a.png,red\nx/b.png,blue\na.png,red\n")
    with pytest.raises(DataError, match="names 'a.png' twice, as 'x/a.png' too"):
        load_it(root, "tags.csv")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("folder", "tags='folder' is neither 'folders' nor a table"),
        ("gone.csv", "tags='gone.csv' is neither"),
        ("a.png", "a.png must end in .csv, .tsv, .txt, .json"),
    ],
)
def test_labels_that_are_no_file_of_tags_are_refused(pictures, load_it, labels, words):
    with pytest.raises(DataError, match=words):
        load_it(pictures, labels)


def test_bytes_that_are_no_text_are_refused(pictures, load_it, tags_csv):
    tags_csv.write_bytes(b"a.png,r\xe9d\n")
    with pytest.raises(DataError, match="tags.csv is not text in UTF-8"):
        load_it(pictures, tags_csv)


@pytest.mark.parametrize("name", ["folder.csv", "gone.json"])
def test_what_is_no_file_cannot_be_read(tmp_path, name):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=f"{name} cannot be read"):
        read_labels(tmp_path / name)


@pytest.mark.parametrize(
    ("files", "empty", "words"),
    [
        (["1.png", "2.png"], [], "two or more, and there is none; sort"),
        (["cat/1.png"], [], "two or more, and there is none; sort"),
        (["all/cat/1.png"], [], "two or more, and there is only 'cat'; sort"),
        (["cat/1.png", "2.png"], [], "two or more, and there is only 'cat'; sort"),
        (["cat/1.png", "ant/2.png", "3.png", "4.png"], [], "2 of 4 .* class's .* first '3.png'"),
        (["cat/1.png", "ant/2.png"], ["bee", "fly"], "2 of 4 class .* no picture, the first 'bee'"),
        (["all/cat/1.png", "all/ant/2.png"], ["all/bee"], "1 of 3 class .* the first 'bee'"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_folders_that_are_no_classes_are_refused(load_it, tmp_path, files, empty, words, zipped):
    root = write_pictures(tmp_path / "pictures", files)
    for name in empty:
        (root / name).mkdir()
    if zipped:
        root = packed(root, tmp_path / "pictures.zip")
    with pytest.raises(DataError, match=words):
        load_it(root, "folders")


def test_a_linked_class_folder_is_not_passed_over(load_it, tmp_path):
    root = write_pictures(tmp_path / "pictures", ["cat/1.png", "ant/2.png"])
    (root / "bee").symlink_to(root / "cat")
    with pytest.raises(DataError, match="1 of 3 class folders .* 'bee'"):
        load_it(root, "folders")


def test_labels_of_other_data_sets_are_refused(pictures):
    with pytest.raises(DataError, match="tags='folders' is for data set 'folder' and 'anime'"):
        load("anime", data_dir=pictures, tags="folders")


def write_anime(tmp_path, text, name="faces-tags.csv"):
    data_dir = tmp_path / "data"
    write_pictures(data_dir / "anime", FILES)
    (data_dir / name).write_text(text)
    return data_dir


def load_hair(tmp_path, data_dir, **settings):
    return load(
        "anime_hair", data_dir=data_dir, image_size=8, cache_dir=tmp_path / "cache", **settings
    )


@pytest.mark.parametrize("zipped", [False, True])
def test_anime_faces_by_their_hair(tmp_path, zipped):
    data_dir = write_anime(
        tmp_path, "file,eyes,hair\nmore/d.png,red,aqua\na.png,,red\nb.png,red,\n"
    )
    if zipped:
        packed(data_dir / "anime", data_dir / "anime.zip", "faces/")
        shutil.rmtree(data_dir / "anime")
    dataset = load_hair(tmp_path, data_dir)
    assert dataset.spec == ("anime_hair", 8, 1, "class", ("aqua", "red"), False)
    assert grays(dataset) == [0, 3]
    np.testing.assert_array_equal(dataset.labels, [[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,eyes\na.png,red\n", "has no column 'hair' but file, eyes"),
        ("a.png,red\n", "has no line that names its columns, among them 'hair'"),
        ("file,eyes,hair\na.png,red\n", "has 3 columns and a line of 2, 'a.png, red'"),
        ("file,hair\na.png,red\nb.png,red\n", "has only the label 'red'"),
        ("file,hair\na.png,red\ne.png,blue\n", "1 of 2 files .* the first 'e.png'"),
        ("file,hair\na.png,red\na.png,blue\n", "names 'a.png' twice"),
    ],
)
def test_bad_colors_of_hair_are_refused(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        load_hair(tmp_path, write_anime(tmp_path, text))


def test_hair_needs_exactly_one_file_of_tags(tmp_path):
    data_dir = write_anime(tmp_path, "file,hair\n", "other.csv")
    with pytest.raises(DataError, match=r"needs one file \*tags\*.csv .* there is none; put"):
        load_hair(tmp_path, data_dir)
    for name in ("tags.csv", "tags2.csv"):
        (data_dir / name).write_text("file,hair\n")
    with pytest.raises(DataError, match="there are tags.csv, tags2.csv; keep one"):
        load_hair(tmp_path, data_dir)


def spec_of(kind, *names):
    return DataSpec("mine", 8, 3, kind, names)


DIGITS = spec_of("class", *"0123456789")
SOLIDS = spec_of("tags", "red cube", "blue sphere", "gray cylinder")


@pytest.mark.parametrize(
    ("text", "spec", "numbers"),
    [
        ("red cube,blue sphere;gray cylinder", SOLIDS, [[0, 1], [2]]),
        (" gray cylinder , red cube ", SOLIDS, [[0, 2]]),
        ("3;7;3", DIGITS, [[3], [7], [3]]),
        ("tench, a fish;cat", spec_of("class", "cat", "tench, a fish"), [[1], [0]]),
    ],
)
def test_labels_from_text(text, spec, numbers):
    vectors = parse_labels(text, spec)
    assert vectors.dtype == np.float32 and vectors.shape == (len(numbers), len(spec.label_names))
    assert [vector.nonzero()[0].tolist() for vector in vectors] == numbers and vectors.max() == 1


@pytest.mark.parametrize(
    ("text", "spec", "words"),
    [
        (
            "red cubes",
            SOLIDS,
            r"unknown label 'red cubes' \(did you mean 'red cube'\?\); valid: bl",
        ),
        ("red cube,", SOLIDS, "unknown label ''"),
        ("red cube;", SOLIDS, "empty condition; .* such as 'red cube;blue sphere'"),
        ("", DIGITS, "empty condition"),
        ("10", DIGITS, "unknown label '10'"),
        ("3,7", DIGITS, "'3,7' asks for several classes .* separate them with ';'"),
        ("red", spec_of(None), "'mine' has none; labeled ones are .*iclevr, anime_hair and a fol"),
    ],
)
def test_bad_labels_in_text_are_refused(text, spec, words):
    with pytest.raises(DataError, match=words):
        parse_labels(text, spec)


def test_conditions_from_a_file(tmp_path):
    path = tmp_path / "test.json"
    path.write_text('[["gray cylinder"], ["red cube", "blue sphere"]]')
    vectors = load_conditions(path, SOLIDS)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, [[0, 0, 1], [1, 1, 0]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "is empty"),
        ("", "is empty"),
        ("[[]]", "condition 1 has 0 labels, ''; one tag or more"),
        ('["red cube"]', "must be an object"),
        ('[["red cub"]]', r"test.json: unknown label 'red cub' \(did you mean 'red cube'\?\)"),
        ("[[", "is not JSON"),
    ],
)
def test_bad_conditions_are_refused(tmp_path, text, words):
    path = tmp_path / "test.json"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        load_conditions(path, SOLIDS)


@pytest.mark.slow
def test_the_hair_of_real_anime_faces(real_data, tmp_path):
    dataset = load_hair(tmp_path, real_data)
    assert len(dataset) == 9948 and dataset.spec.label_names[:3] == ("aqua", "black", "blonde")
    assert (dataset.labels.sum(1) == 1).all() and dataset.labels.sum(0).min() == 173


def test_skipped_pictures_are_named(pictures, load_it, tags_csv, caplog):
    (pictures / "b.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        dataset = load_it(pictures, tags_csv, skip_corrupt=True)
    assert "1 of 4 pictures" in caplog.text and "b.png (zero bytes)" in caplog.text
    np.testing.assert_array_equal(dataset.labels, [VECTORS[0], *VECTORS[2:]])


FORMS = {
    "labels.tsv": "Image_ID\tword\na\tred\nb\tblue\nc\tred\nd\tblue\n",
    "labels.csv": "file_name;word\n./a.png;red\n./b.png;blue\n./more/c.png;red\n"
    "./more/d.png;blue\n",
    "metadata.csv": "file_name,word\na.png,red\nb.png,blue\nmore/c.png,red\nmore/d.png,blue\n",
    "metadata.jsonl": "".join(
        json.dumps({"file_name": file, "word": word}) + "\n"
        for file, word in zip(FILES, ["red", "blue"] * 2, strict=True)
    ),
    "list.json": json.dumps(
        [{"path": f, "word": w} for f, w in zip(FILES, ["red", "blue"] * 2, strict=True)]
    ),
    "dataset.json": json.dumps(
        {"labels": [[f, w] for f, w in zip(FILES, ["red", "blue"] * 2, strict=True)]}
    ),
    "object.json": json.dumps(dict(zip(FILES, ["red", "blue"] * 2, strict=True))),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_table_gives_the_same_classes(pictures, load_it, tmp_path, name, caplog):
    text = FORMS[name].replace("\nc\t", "\nmore/c\t").replace("\nd\t", "\nmore/d\t")
    (tmp_path / name).write_text(text)
    dataset = load_it(pictures, name)
    assert dataset.spec[3:5] == ("class", ("blue", "red"))
    np.testing.assert_array_equal(dataset.labels.argmax(1), [1, 0, 1, 0])
    assert f"{name} is read as class (label_kind=tags reads it otherwise)" in caplog.text
    assert load_it(pictures, name, label_kind="tags").spec.label_kind == "tags"
    assert load_it(pictures, name, reading=1).spec[2:4] == (3, "tags")


ROWS = "photo,hair,eyes\na.png,red,blue\nb.png,blue,red\nmore/c.png,,red\nmore/d.png,gray,\n"


def test_columns_that_share_words_say_their_name(pictures, load_it, tmp_path):
    (tmp_path / "t.csv").write_text(ROWS)
    names = ("eyes: blue", "eyes: red", "hair: blue", "hair: gray", "hair: red")
    assert load_it(pictures, "t.csv:photo").spec.label_names == names
    hair = load_it(pictures, "t.csv:photo,hair", unlabeled="drop")
    assert hair.spec[3:5] == ("class", ("blue", "gray", "red")) and len(hair) == 3
    with pytest.raises(DataError, match="1 of 4 pictures are not named .* unlabeled='drop'"):
        load_it(pictures, "t.csv:photo,hair")
    with pytest.raises(DataError, match="has no column 'nose' but photo, hair, eyes"):
        load_it(pictures, "t.csv:photo,nose")
    with pytest.raises(DataError, match="column of files by tags='t.csv:COLUMN"):
        load_it(pictures, "t.csv")
    with pytest.raises(DataError, match="gives 'a.png' 2 labels, .* try label_kind='tags'"):
        load_it(pictures, "t.csv:photo", label_kind="class")


def test_truth_columns_and_cells_of_several_words(pictures, load_it, tmp_path, caplog):
    (tmp_path / "t.csv").write_text(
        "image,Smiling,Hat\na.png,1,-1\nb.png,-1,-1\nmore/c.png,1,1\nmore/d.png,-1,1\n"
    )
    dataset = load_it(pictures, "t.csv")
    assert dataset.spec[3:5] == ("tags", ("Hat", "Smiling"))
    np.testing.assert_array_equal(dataset.labels, [[0, 1], [0, 0], [1, 1], [1, 0]])
    assert "1 of 4 pictures in" in caplog.text and "have no tag" in caplog.text
    (tmp_path / "u.csv").write_text(
        "file,tags\na.png,red;big\nb.png,big\nmore/c.png,red|small\nmore/d.png,small\n"
    )
    assert load_it(pictures, "u.csv").spec[3:5] == ("tags", ("big", "red", "small"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "000000.png,gray cylinder\n000001.png,red cube,blue sphere\n"),
        ("b.csv", "gray cylinder\nred cube,blue sphere\n"),
        ("c.json", '{"0.png": ["gray cylinder"], "1.png": ["red cube", "blue sphere"]}'),
        (
            "d.jsonl",
            '{"file": "0", "t": ["gray cylinder"]}\n{"t": ["red cube", "blue sphere"]}',
        ),
    ],
)
def test_conditions_from_tables(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    np.testing.assert_array_equal(load_conditions(tmp_path / name, SOLIDS), [[0, 0, 1], [1, 1, 0]])


def test_several_classes_at_once_are_refused(tmp_path):
    (tmp_path / "t.json").write_text('[["3", "7"]]')
    with pytest.raises(DataError, match="condition 1 has 2 labels, '3, 7'; one class belong"):
        load_conditions(tmp_path / "t.json", DIGITS)
