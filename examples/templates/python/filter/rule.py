"""Which events pass. Plain Python, tested without a component."""


class Rule:
    def __init__(self, services=()):
        self.services = frozenset(services)

    def is_wanted(self, service):
        """`None`: the data cannot be decoded."""
        return service in self.services
