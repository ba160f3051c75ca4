import json
import unittest

from redact import Redaction, pattern_problems


class RedactionTest(unittest.TestCase):
    def check(self, data, expected, **config):
        made = Redaction(**config).redacted(json.dumps(data))
        self.assertEqual(made and json.loads(made[0]), expected)

    def test_members_with_the_name_of_a_secret(self):
        data = {"user": "a", "dbPassword": "b", "list": [{"API_KEY": {"id": 1}}]}
        self.check(data, {"user": "a", "dbPassword": "***", "list": [{"API_KEY": "***"}]})

    def test_secrets_within_texts(self):
        token = "ghp_" + "a" * 36
        data = {"log": f"pushed with {token} to https://me:pass@host/x", "n": [f"{token}"]}
        self.check(data, {"log": "pushed with *** to https://***@host/x", "n": ["***"]})

    def test_data_without_secrets_is_left_alone(self):
        for data in ({"message": "ok", "n": 1.5, "none": None}, [1, 2], "text", None, {"token": ""}, {"token": "***"}):
            self.check(data, None)

    def test_own_patterns_replace_those_that_come_along(self):
        self.check({"iban": "DE1", "token": "x"}, {"iban": "***", "token": "x"}, names="^iban$")
        self.check({"a": "id 4711", "b": "AKIA" + "A" * 16}, {"a": "id ***", "b": "AKIA" + "A" * 16}, texts=[r"\d{4}"])

    def test_every_pattern_that_is_none_is_named(self):
        problems = pattern_problems({"names": "(", "texts": ["ok", "["]})
        self.assertEqual([pointer for pointer, _ in problems], ["/names", "/texts/1"])
        self.assertEqual(pattern_problems({}), [])


if __name__ == "__main__":
    unittest.main()
