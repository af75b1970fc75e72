"""Names that icon designers gave their glyphs, brought to one class name.

Ten packs write one thing in ten ways: "ic-fluent-home-20-filled",
"icon-house", "ion-ios-home-outline", "home-4-line". `class_name` removes what
says how a glyph is drawn and keeps what it shows: "home".

Words of equal meaning are joined, because otherwise one picture ("print" and
"printer") would be two classes, in two splits or even in one episode. A glyph
that shows something else than its name says in most packs is given another
class or none. Both tables were made by looking at all pictures.
"""

import re


def _words(text: str) -> frozenset[str]:
  return frozenset(text.split())


# What a pack, a font or a platform puts before a name.
_PREFIX = re.compile(
  r"^(ic-fluent|icon|mdi|md|eva|ion|typcn|ios|android|logo|social)-(?=.)"
)

# Words for a style of drawing, which packs put after a name; also optical
# sizes in px. Only where a pack means that by it: in others "alarm-light" is
# a lamp, "circle-line" a circle with a line, "forward-30" half a minute.
_STYLES = _words("outline outlined fill filled sharp round rounded thick")
_PACK_STYLES = {
  "fluent": _words("regular light 16 20 24 28 32 48"),
  "remix": _words("line"),
}

# Remix numbers its variants of one thing: user-2, user-3. In other packs a
# final number is usually a part of the picture: dice-3, filter-2.
_NUMBERED_PACKS = _words("remix")


def _by_synonym(table: dict[str, str]) -> dict[str, str]:
  """{"home": "house hut"} as {"house": "home", "hut": "home"}."""
  return {other: to for to, others in table.items() for other in others.split()}


# One word for another, wherever it stands in a name.
_SAME_WORD = _by_synonym(
  {
    "bell": "notification notifications",
    "check": "checkmark tick",
    "close": "x xmark times",
    "file": "document",
    "home": "house",
    "image": "photo",
    "mail": "email envelope",
    "mic": "microphone",
    "minus": "subtract dash",
    "person": "user account",
    "plus": "add",
    "print": "printer",
  }
)

# One whole name for another, after the words have been replaced.
_SAME_NAME = _by_synonym(
  {
    "airplane": "plane flight",
    "arrow-left": "arrow-back",
    "arrow-right": "arrow-forward",
    "battery-charging": "battery-charge",
    "bicycle": "bike directions-bike",
    "bolt": "flash lightning zap",
    "bolt-off": "flash-off zap-off",
    "car": "directions-car car-side automobile",
    "cart": "shopping-cart",
    "chart-bar": "bar-chart",
    "chart-pie": "pie-chart",
    "chat": "chat-bubble comment message",
    "check": "done",
    "close": "clear",
    "cloud-download": "cloud-arrow-down download-cloud",
    "cloud-upload": "cloud-arrow-up upload-cloud",
    "copy": "content-copy",
    "cpu": "chip microchip",
    "cup": "coffee local-cafe mug",
    "dislike": "thumb-down thumbs-down hand-thumbs-down thumb-dislike",
    "drop": "droplet water-drop tint",
    "edit": "pencil pen create",
    "eye": "visibility",
    "eye-off": "visibility-off",
    "fire": "flame local-fire-department",
    "gauge": "speedometer speed",
    "heart": "favorite",
    "heart-broken": "heart-break heart-crack",
    "image": "insert-image picture",
    "info": "information",
    "joystick": "gamepad controller game-controller",
    "lightbulb": "bulb",
    "like": "thumb-up thumbs-up hand-thumbs-up thumb-like",
    "location": "map-pin place map-marker location-pin location-dot geo-alt "
    "room",
    "lock-open": "unlock",
    "magic-wand": "wand wand-magic",
    "medal": "award",
    "mic-off": "mic-mute",
    "monitor": "desktop computer display",
    "more-horizontal": "ellipsis ellipsis-h dots-horizontal more-horiz "
    "three-dots",
    "more-vertical": "ellipsis-v ellipsis-vertical dots-vertical more-vert "
    "three-dots-vertical",
    "music-note": "music",
    "paperclip": "attachment attach attach-file",
    "people": "persons group users person-multiple person-group",
    "phone": "call telephone",
    "pin": "push-pin thumbtack pushpin",
    "question": "question-mark",
    "question-circle": "help-circle help",
    "scissors": "cut content-cut",
    "search": "magnify magnifying-glass",
    "settings": "cog gear",
    "shopping-bag": "bag",
    "smartphone": "cellphone",
    "sun": "sunny weather-sunny wb-sunny",
    "timer": "stopwatch",
    "trash": "delete bin trash-can trash-bin delete-bin",
    "tv": "television",
    "video": "videocam camera-video",
    "video-off": "videocam-off camera-video-off",
    "volume-off": "volume-mute volume-close",
    "volume-up": "volume-high",
    "warning": "alert alert-triangle triangle-alert triangle-exclamation "
    "exclamation-triangle error-warning",
    "wrench": "build",
  }
)

# Glyphs of one pack that show another thing than the name says elsewhere.
_SHOWS = {
  "bs/phone": "smartphone",
  "eva/car": "truck",
  "eva/pin": "location",
  "fluent/alert": "bell",
  "fluent/beaker": "flask",
  "fluent/navigation": "menu",
  "fluent/phone": "smartphone",
  "fluent/ribbon": "medal",
  "gmi/computer": "laptop",
  "gmi/power": "plug",
  "ion/help": "question",
  "lucide/delete": "backspace",
  "mat/help": "question",
  "mat/water": "drop",
  "remix/dashboard": "gauge",
  "remix/flashlight": "bolt",
  "remix/question": "question-circle",
}

# Glyphs that are left out: alone with their meaning, or spoilt in the font.
_LEFT_OUT = _words(
  """
  bs/save bs/server bs/subtract eva/radio fluent/align-left
  fluent/align-right fluent/arrow-forward fluent/check fluent/group
  gmi/archive gmi/filter gmi/folder-open gmi/gamepad gmi/info-outline
  gmi/pin gmi/tag gmi/window ion/alert ion/archive ion/folder-open
  ion/settings lucide/bolt lucide/group lucide/radio lucide/text mat/bolt
  mat/box mat/contrast mat/gamepad mat/group mat/hospital mat/text
  remix/dashboard-fill remix/dashboard-line remix/dislike
  remix/error-warning remix/speed remix/video typicons/arrow-back
  typicons/arrow-forward typicons/delete
  """
)

# Names under which every pack draws something of its own.
_MIXED = _words("album cloudy diamond forward maximize scale timeline")


def plain_name(raw_name: str) -> str:
  """The pack's own name without the prefixes that say only where it is from.

  Args:
    raw_name: such as "icon-arrow-left" or "ic_fluent_home_20_filled".

  Returns:
    Such as "arrow-left" or "home-20-filled".
  """
  name = raw_name.lower().replace("_", "-")
  while (shorter := _PREFIX.sub("", name)) != name:
    name = shorter
  return name


def class_name(pack: str, raw_name: str) -> str | None:
  """What a glyph shows, in the words of the data set.

  Args:
    pack: such as "lucide".
    raw_name: the name in the glyph map of the pack.

  Returns:
    Such as "arrow-left" or "home"; None if the glyph is to be left out.
  """
  plain = plain_name(raw_name)
  words = plain.split("-")
  styles = _STYLES | _PACK_STYLES.get(pack, frozenset())
  while len(words) > 1 and words[-1] in styles:
    words.pop()
  if pack in _NUMBERED_PACKS and len(words) > 1 and words[-1].isdigit():
    words.pop()
  own = f"{pack}/{'-'.join(words)}"
  if own in _LEFT_OUT or f"{pack}/{plain}" in _LEFT_OUT:
    return None
  if own in _SHOWS:
    return _SHOWS[own]

  words = [_SAME_WORD.get(word, word) for word in words]
  # "circle-check", "check-circle": packs differ in the order only.
  words.sort(key=lambda word: word in ("circle", "square"))
  if len(words) > 1 and words[-1] == "slash":
    words[-1] = "off"
  name = "-".join(words)
  name = _SAME_NAME.get(name, name)
  return None if name in _MIXED else name
