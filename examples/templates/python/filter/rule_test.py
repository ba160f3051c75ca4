import unittest

from rule import Rule


class RuleTest(unittest.TestCase):
    def test_only_events_of_wanted_services_pass(self):
        rule = Rule(["carts", "orders"])
        self.assertTrue(rule.is_wanted("orders"))
        for service in ("Orders", "", None):
            self.assertFalse(rule.is_wanted(service))


if __name__ == "__main__":
    unittest.main()
