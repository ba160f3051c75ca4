import unittest

from rule import Rule


class RuleTest(unittest.TestCase):
    def test_only_what_is_missing_is_added(self):
        rule = Rule("team", "checkout")
        self.assertEqual(rule.missing_among(["teams"]), ("team", "checkout"))
        self.assertIsNone(rule.missing_among(["tier", "team"]))


if __name__ == "__main__":
    unittest.main()
