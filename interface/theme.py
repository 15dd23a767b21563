"""The looks of the page: a theme of its own on system fonts, in light and dark."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from evaluation.themes import DARK, LIGHT

_FOLDER = Path(__file__).parent
CSS_FILE = _FOLDER / "style.css"
SCRIPT_FILES = _FOLDER / "page.js", _FOLDER / "gradio_adapter.js"  # in this order

# Fonts that systems bring along: none is fetched from anywhere.
BODY_FONTS = ("Seravek", "Gill Sans Nova", "Ubuntu", "Calibri", "Liberation Sans", "sans-serif")
MONO_FONTS = ("ui-monospace", "Cascadia Code", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")


def theme() -> gr.themes.Base:
    """Returns the theme; its cards have the background of the figures that lie on them."""
    looks = gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        font=[*BODY_FONTS],
        font_mono=[*MONO_FONTS],
        radius_size="none",
        text_size="lg",
    )
    return looks.set(
        body_background_fill="#f3f1ec",
        body_background_fill_dark="#0a0d12",
        body_text_color=LIGHT.ink,
        body_text_color_dark=DARK.ink,
        body_text_color_subdued=LIGHT.muted,
        body_text_color_subdued_dark=DARK.muted,
        background_fill_primary=LIGHT.background,
        background_fill_primary_dark=DARK.background,
        background_fill_secondary="#faf9f6",
        background_fill_secondary_dark="#171d26",
        block_background_fill=LIGHT.background,
        block_background_fill_dark=DARK.background,
        block_border_color="#d9d5cb",
        block_border_color_dark=DARK.grid,
        border_color_primary="#d9d5cb",
        border_color_primary_dark=DARK.grid,
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_text_color=LIGHT.muted,
        block_label_text_color_dark=DARK.muted,
        block_title_text_color=LIGHT.muted,
        block_title_text_color_dark=DARK.muted,
        block_shadow="none",
        input_background_fill=LIGHT.background,
        input_background_fill_dark="#171d26",
        input_border_color="#8a8f98",
        input_border_color_dark="#5b6675",
        color_accent=LIGHT.main,
        color_accent_soft="#e4edf7",
        color_accent_soft_dark="#1b3556",
        link_text_color=LIGHT.main,
        link_text_color_dark=DARK.main,
        button_primary_background_fill=LIGHT.main,
        button_primary_background_fill_dark=DARK.main,
        button_primary_background_fill_hover="#174a85",
        button_primary_background_fill_hover_dark="#93c3f5",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#0a0d12",
        button_secondary_background_fill=LIGHT.background,
        button_secondary_background_fill_dark="#171d26",
        button_secondary_background_fill_hover="#e4edf7",
        button_secondary_background_fill_hover_dark="#1b3556",
        button_secondary_text_color=LIGHT.ink,
        button_secondary_text_color_dark=DARK.ink,
        checkbox_label_background_fill=LIGHT.background,
        checkbox_label_background_fill_dark="#171d26",
        checkbox_label_background_fill_hover="#e4edf7",
        checkbox_label_background_fill_hover_dark="#1b3556",
        checkbox_label_background_fill_selected=LIGHT.main,
        checkbox_label_background_fill_selected_dark=DARK.main,
        checkbox_label_text_color_selected="#ffffff",
        checkbox_label_text_color_selected_dark="#0a0d12",
        checkbox_background_color_selected=LIGHT.main,
        checkbox_background_color_selected_dark="#0a0d12",
        slider_color=LIGHT.main,
        slider_color_dark=DARK.main,
        error_background_fill="#fdf1ec",
        error_background_fill_dark="#2b1710",
        error_text_color="#8f3a08",
        error_text_color_dark="#f39a5b",
    )
