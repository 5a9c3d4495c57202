"""The published checkpoints' cards."""

from __future__ import annotations

import re

import pytest

from isa_deploy.models.cards import ModelCard, find_card, load_cards


def test_there_are_sixteen_with_names_files_and_hashes_of_their_own() -> None:
    cards = load_cards()
    assert len(cards) == 16
    assert len({card.name for card in cards}) == len({card.file for card in cards}) == 16
    assert len({card.sha8 for card in cards}) == 16
    assert all(re.fullmatch(r"[0-9a-f]{8}", card.sha8) for card in cards)


@pytest.mark.parametrize("card", load_cards(), ids=lambda card: card.sha8)
def test_a_cards_fields_agree_with_its_own_names(card: ModelCard) -> None:
    height, width = card.crop_hw
    depth, crop, schedule = f"r{card.depth}-d8", f"{height}x{width}", f"{card.iterations // 1000}k"
    assert card.file.startswith(f"isanet_{depth}_{crop}_{schedule}_")
    assert card.name.startswith(f"isanet_{depth}_4xb")
    assert card.name.endswith(crop)
    assert f"-{schedule}_" in card.name
    short = {"CityscapesDataset": "cityscapes", "ADE20KDataset": "ade20k", "PascalVOCDataset": "voc12aug"}[
        card.dataset_type
    ]
    assert f"_{short}_" in card.file
    assert card.num_classes == {"cityscapes": 19, "ade20k": 150, "voc12aug": 21}[short]


@pytest.mark.parametrize("card", load_cards(), ids=lambda card: card.sha8)
def test_models_trained_on_769_slide_and_align_corners_and_the_others_do_not(card: ModelCard) -> None:
    if card.crop_hw == (769, 769):
        assert (card.mode, card.stride_hw, card.align_corners) == ("slide", (513, 513), True)
        assert card.scale_wh == (2049, 1025)
    else:
        assert (card.mode, card.stride_hw, card.align_corners) == ("whole", None, False)
        assert card.scale_wh == ((2048, 1024) if card.dataset == "Cityscapes" else (2048, 512))


def test_the_published_figures() -> None:
    best = max(load_cards(), key=lambda card: card.miou if card.dataset == "Cityscapes" else 0)
    assert best.file == "isanet_r101-d8_769x769_80k_cityscapes_20210903_111319-24f71dfa.pth"
    assert (best.miou, best.miou_ms_flip, best.fps, best.train_memory_gb) == (80.61, 81.59, 0.92, 10.815)
    ade = find_card("isanet_r50-d8_4xb4-80k_ade20k-512x512")
    assert ade is not None
    assert (ade.miou, ade.miou_ms_flip, ade.fps, ade.train_memory_gb) == (41.12, 42.35, 22.55, 9.0)


def test_a_card_is_found_by_file_by_hash_and_by_name() -> None:
    card = load_cards()[0]
    assert find_card(card.file) is card
    assert find_card(card.sha8) is card
    assert find_card(card.sha8 + "0" * 56) is card
    assert find_card(card.name) is card
    assert find_card(card.sha8[:7]) is None
    assert find_card("00000000") is None
    assert find_card("") is None


def test_a_cards_address() -> None:
    assert load_cards()[0].url == (
        "https://download.openmmlab.com/mmsegmentation/v0.5/isanet/isanet_r50-d8_512x1024_40k_cityscapes/"
        "isanet_r50-d8_512x1024_40k_cityscapes_20210901_054739-981bd763.pth"
    )
