"""What is redacted. Plain Python, tested without a component."""

import json
import re

MASK = "***"

# Names of members whose values are secrets, whatever they hold.
NAMES = r"(?i)(password|passwd|secret|token|api[-_]?key|authorization|credential)"
# Texts that are secrets wherever they stand: tokens of GitHub and AWS, JSON Web Tokens, passwords in URLs.
TEXTS = (
    r"\bgh[pousr]_[A-Za-z0-9]{36,}\b",
    r"\bAKIA[0-9A-Z]{16}\b",
    r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+",
    r"(?<=://)[^/\s:@]+:[^/\s:@]+(?=@)",
)


class Redaction:
    """Patterns, made once for each instance."""

    def __init__(self, names=NAMES, texts=TEXTS):
        self.names = re.compile(names)
        # One pattern, so that a text is looked through once.
        self.texts = re.compile("|".join(f"(?:{text})" for text in texts))

    def redacted(self, data):
        """The JSON without secrets and how many there were, or None where there were none."""
        value, found = self._value(json.loads(data))
        return (json.dumps(value, ensure_ascii=False, separators=(",", ":")), found) if found else None

    def _value(self, value):
        if isinstance(value, dict):
            found, made = 0, {}
            for name, member in value.items():
                if member not in (None, "", MASK) and self.names.search(name):
                    made[name], n = MASK, 1
                else:
                    made[name], n = self._value(member)
                found += n
            return made, found
        if isinstance(value, list):
            pairs = [self._value(item) for item in value]
            return [item for item, _ in pairs], sum(n for _, n in pairs)
        if isinstance(value, str):
            return self.texts.subn(MASK, value)
        return value, 0


def pattern_problems(config):
    """What is wrong with the patterns of a configuration: JSON Pointers and messages."""
    patterns = [("/names", config["names"])] if "names" in config else []
    patterns += [(f"/texts/{number}", text) for number, text in enumerate(config.get("texts", []))]
    problems = []
    for pointer, pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            problems.append((pointer, f"is no pattern: {error}"))
    return problems
