"""What is added to events. Plain Python, tested without a component."""


class Rule:
    def __init__(self, extension="", value=""):
        self.extension = extension
        self.value = value

    def missing_among(self, extensions):
        """Name and value of the extension, or None if it is among these names."""
        return None if self.extension in extensions else (self.extension, self.value)
