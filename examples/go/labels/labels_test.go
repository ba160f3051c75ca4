package labels

import "testing"

func TestMissing(t *testing.T) {
	for _, c := range []struct {
		name    string
		rule    Rule
		labels  map[string]string
		missing string
	}{
		{"one of the values", Rule{"team", []string{"a", "b"}}, map[string]string{"team": "b"}, ""},
		{"any value", Rule{"team", nil}, map[string]string{"team": ""}, ""},
		{"other value", Rule{"team", []string{"a"}}, map[string]string{"team": "A"}, "another value of label team"},
		{"other label", Rule{"team", nil}, map[string]string{"tier": "a"}, "no label team"},
		{"no labels", Rule{"team", nil}, nil, "no label team"},
	} {
		missing, isMissing := c.rule.Missing(c.labels)
		if missing != c.missing || isMissing != (c.missing != "") {
			t.Errorf("%s: %q, %v", c.name, missing, isMissing)
		}
	}
}
