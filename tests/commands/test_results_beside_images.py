"""Figures never go into the folder whose images are looked at."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import attention_outliers.commands.main as main
from attention_outliers.commands.options import check_outside


def test_folders_of_results_below_a_folder_of_images_are_refused(tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    (photos / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(photos)
    for folder in (photos, photos / "new", photos / "deep/new", tmp_path / "link/new"):
        with pytest.raises(ValueError, match=r"`--plots` .* lies in the folder of images"):
            check_outside([str(photos)], plots=folder)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="--out"):
        check_outside(["photos"], out=Path("photos/x"))
    for folder in (tmp_path / "photos2", tmp_path, None):
        check_outside([str(photos)], plots=folder)
    check_outside([str(photos / "a.png"), "photos/*.png"], plots=photos / "new")  # files, which stay the same


@pytest.mark.parametrize(
    "command",
    [
        ["probe", "photos", "--plots", "photos/figures"],
        ["compare", "photos", "--out", "photos/compared"],
        ["figure", "clearclip/fig-2", "photos", "--out", "photos/figures"],
    ],
)
def test_commands_refuse_it_before_a_model_is_loaded(command, tmp_path, monkeypatch, capsys):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "photos/a.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["outliers", *command, "--backbone", "nowhere"])
    with pytest.raises(SystemExit):
        main.main()
    assert "lies in the folder of images `photos`" in capsys.readouterr().err
