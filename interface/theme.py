"""The theme of the page, light and dark, with system fonts."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from evaluation.themes import DARK, LIGHT

_FOLDER = Path(__file__).parent
CSS_FILE = _FOLDER / "style.css"
SCRIPT_FILES = _FOLDER / "page.js", _FOLDER / "gradio_adapter.js"  # in this order

# Fonts of operating systems: none is downloaded.
BODY_FONTS = ("Seravek", "Gill Sans Nova", "Ubuntu", "Calibri", "Liberation Sans", "sans-serif")
MONO_FONTS = ("ui-monospace", "Cascadia Code", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

# Property: colour in the light and in the dark theme.
COLOURS = {
    "body_background_fill": ("#f3f1ec", "#0a0d12"),
    "body_text_color": (LIGHT.ink, DARK.ink),
    "body_text_color_subdued": (LIGHT.muted, DARK.muted),
    "background_fill_primary": (LIGHT.background, DARK.background),
    "background_fill_secondary": ("#faf9f6", "#171d26"),
    "block_background_fill": (LIGHT.background, DARK.background),
    "block_border_color": ("#d9d5cb", DARK.grid),
    "border_color_primary": ("#d9d5cb", DARK.grid),
    "block_label_background_fill": ("transparent", "transparent"),
    "block_label_text_color": (LIGHT.muted, DARK.muted),
    "block_title_text_color": (LIGHT.muted, DARK.muted),
    "input_background_fill": (LIGHT.background, "#171d26"),
    "input_border_color": ("#8a8f98", "#5b6675"),
    "color_accent_soft": ("#e4edf7", "#1b3556"),
    "link_text_color": (LIGHT.main, DARK.main),
    "button_primary_background_fill": (LIGHT.main, DARK.main),
    "button_primary_background_fill_hover": ("#174a85", "#93c3f5"),
    "button_primary_text_color": ("#ffffff", "#0a0d12"),
    "button_secondary_background_fill": (LIGHT.background, "#171d26"),
    "button_secondary_background_fill_hover": ("#e4edf7", "#1b3556"),
    "button_secondary_text_color": (LIGHT.ink, DARK.ink),
    "checkbox_label_background_fill": (LIGHT.background, "#171d26"),
    "checkbox_label_background_fill_hover": ("#e4edf7", "#1b3556"),
    "checkbox_label_background_fill_selected": (LIGHT.main, DARK.main),
    "checkbox_label_text_color_selected": ("#ffffff", "#0a0d12"),
    "checkbox_background_color_selected": (LIGHT.main, "#0a0d12"),
    "slider_color": (LIGHT.main, DARK.main),
    "error_background_fill": ("#fdf1ec", "#2b1710"),
    "error_text_color": ("#8f3a08", "#f39a5b"),
}


def theme() -> gr.themes.Base:
    """Returns the theme; its blocks have the same background as the figures."""
    base = gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        font=[*BODY_FONTS],
        font_mono=[*MONO_FONTS],
        radius_size="none",
        text_size="lg",
    )
    light = {name: colour for name, (colour, _) in COLOURS.items()}
    dark = {f"{name}_dark": colour for name, (_, colour) in COLOURS.items()}
    return base.set(block_shadow="none", color_accent=LIGHT.main, **light, **dark)
