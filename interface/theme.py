"""The looks of the page: a theme of its own on system fonts, in light and dark."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from evaluation.plots.appearance import THEMES

_FOLDER = Path(__file__).parent
CSS_FILE = _FOLDER / "style.css"
SCRIPT_FILE = _FOLDER / "page.js"

# Fonts that systems bring along: none is fetched from anywhere.
BODY_FONTS = ("Seravek", "Gill Sans Nova", "Ubuntu", "Calibri", "Liberation Sans", "sans-serif")
MONO_FONTS = ("ui-monospace", "Cascadia Code", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")


def theme() -> gr.themes.Base:
    """Returns the theme; its cards have the background of the figures that lie on them."""
    light, dark = THEMES["light"], THEMES["dark"]
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
        body_text_color=light.ink,
        body_text_color_dark=dark.ink,
        body_text_color_subdued=light.muted,
        body_text_color_subdued_dark=dark.muted,
        background_fill_primary=light.background,
        background_fill_primary_dark=dark.background,
        background_fill_secondary="#faf9f6",
        background_fill_secondary_dark="#171d26",
        block_background_fill=light.background,
        block_background_fill_dark=dark.background,
        block_border_color="#d9d5cb",
        block_border_color_dark=dark.grid,
        border_color_primary="#d9d5cb",
        border_color_primary_dark=dark.grid,
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_text_color=light.muted,
        block_label_text_color_dark=dark.muted,
        block_title_text_color=light.muted,
        block_title_text_color_dark=dark.muted,
        block_shadow="none",
        input_background_fill=light.background,
        input_background_fill_dark="#171d26",
        input_border_color="#8a8f98",
        input_border_color_dark="#5b6675",
        color_accent=light.main,
        color_accent_soft="#e4edf7",
        color_accent_soft_dark="#1b3556",
        link_text_color=light.main,
        link_text_color_dark=dark.main,
        button_primary_background_fill=light.main,
        button_primary_background_fill_dark=dark.main,
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#0a0d12",
        checkbox_label_background_fill_selected=light.main,
        checkbox_label_background_fill_selected_dark=dark.main,
        checkbox_label_text_color_selected="#ffffff",
        checkbox_label_text_color_selected_dark="#0a0d12",
        checkbox_background_color_selected=light.main,
        checkbox_background_color_selected_dark="#0a0d12",
        slider_color=light.main,
        slider_color_dark=dark.main,
        error_background_fill="#fdf1ec",
        error_background_fill_dark="#2b1710",
        error_text_color="#8f3a08",
        error_text_color_dark="#f39a5b",
    )
