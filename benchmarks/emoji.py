"""Renders emoji as a small image data set with nine classes.

python -m benchmarks.emoji emoji --per-class 10

Each emoji is rendered once, in the training or in the test split. The font is not part of this
project; it is the package `fonts-noto-color-emoji` of Debian, Ubuntu and Colab.
"""

import sys
from pathlib import Path

from classifier import command_line
from classifier.errors import InputError

FONT, PACKAGE = "NotoColorEmoji.ttf", "fonts-noto-color-emoji"
FONT_SIZE = 109  # the one size that the pictures in the font have
SIDE = 128  # pixels
# After Unicode's subgroups; none is newer than Unicode 14.
KINDS = {
    "bird": "🦃🐔🐓🐣🐤🐥🐦🐧🕊🦅🦆🦢🦉🦤🦩🦚🦜",
    "building": "🏟🏛🏗🛖🏘🏚🏠🏡🏢🏣🏤🏥🏦🏨🏩🏪🏫🏬🏭🏯🏰💒🗼🗽",
    "clothing": "👓🕶🥽🥼🦺👔👕👖🧣🧤🧥🧦👗👘🥻🩱🩲🩳👙👚👛👜👝🎒🩴👞👟🥾🥿👠👡🩰👢👑👒🎩🎓🧢🪖💍",
    "dish": "🍞🥐🥖🫓🥨🥯🥞🧇🧀🍖🍗🥩🥓🍔🍟🍕🌭🥪🌮🌯🫔🥙🧆🥚🍳🥘🍲🫕🥣🥗🍿🧈🥫🍱🍘🍙"
    "🍚🍛🍜🍝🍠🍢🍣🍤🍥🥮🍡🥟🥠🥡🍦🍧🍨🍩🍪🎂🍰🧁🥧🍫🍬🍭🍮🍯",
    "fruit": "🍇🍈🍉🍊🍋🍌🍍🥭🍎🍏🍐🍑🍒🍓🫐🥝🍅🫒🥥🥑🍆🥔🥕🌽🌶🫑🥒🥬🥦🧄🧅🥜🫘🌰",
    "mammal": "🐵🐒🦍🦧🐶🐕🦮🐩🐺🦊🦝🐱🐈🦁🐯🐅🐆🐴🐎🦄🦓🦌🦬🐮🐂🐃🐄🐷🐖🐗🐏🐑🐐🐪🐫🦙"
    "🦒🐘🦣🦏🦛🐭🐁🐀🐹🐰🐇🐿🦫🦔🦇🐻🐨🐼🦥🦦🦨🦘🦡",
    "plant": "💐🌸💮🪷🏵🌹🥀🌺🌻🌼🌷🌱🪴🌲🌳🌴🌵🌾🌿🍀🍁🍂🍃🍄",
    "tool": "🔨🪓🛠🗡💣🪃🏹🛡🪚🔧🪛🔩🗜🦯🔗🪝🧰🧲🪜",
    "vehicle": "🚂🚃🚄🚅🚆🚇🚈🚉🚊🚝🚞🚋🚌🚍🚎🚐🚑🚒🚓🚔🚕🚖🚗🚘🚙🛻🚚🚛🚜🏎🏍🛵🛺🚲🛴🛶"
    "🚤🛳🛥🚢🛩🛫🛬🚁🚟🚠🚡🚀",
}


def main(arguments: list[str]) -> None:
    """Parses the command line and writes the data set."""
    parser = command_line.argument_parser(
        "Draws emoji as a data set: a folder per kind, in train/ and test/.",
        prog="python -m benchmarks.emoji",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="new; the data set's folder")
    parser.add_argument("--per-class", type=int, default=10, metavar="N", help="training images")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which are for training")
    options = parser.parse_args(arguments)
    write(options.folder, options.per_class, options.seed)


def write(folder: Path, per_class: int, seed: int) -> None:
    """Renders the emoji to a new folder: `train/KIND/CODE.png` and `test/KIND/CODE.png`.

    `per_class` random emoji of each kind are for training, all others for the test split.

    Raises:
        InputError: the font is not installed, the folder exists, or the training or test split
            would be empty.
    """
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    fewest = min(map(len, KINDS.values()))
    if not 1 < per_class < fewest:  # one of them is for validation
        raise InputError(f"--per-class takes 2 to {fewest - 1}. Received: {per_class}")
    try:
        font = ImageFont.truetype(FONT, FONT_SIZE)
    except OSError:
        raise InputError(f"{FONT} is not installed: apt-get install {PACKAGE}") from None
    if folder.exists():
        raise InputError(f"{folder} already exists: choose a new folder")
    for number, (kind, emoji) in enumerate(KINDS.items()):
        order = np.random.default_rng((seed, number)).permutation(list(emoji))
        for split, chosen in (("train", order[:per_class]), ("test", order[per_class:])):
            place = folder / split / kind
            place.mkdir(parents=True)
            for letter in chosen:
                image = Image.new("RGB", (SIDE, SIDE), "white")
                middle = (SIDE // 2, SIDE // 2)
                ImageDraw.Draw(image).text(
                    middle, letter, font=font, anchor="mm", embedded_color=True
                )
                image.save(place / f"{ord(letter):x}.png")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
