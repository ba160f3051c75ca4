package rule

import "testing"

func TestOnlyEventsOfWantedServicesPass(t *testing.T) {
	rule := Rule{Services: []string{"carts", "orders"}}
	for service, isWanted := range map[string]bool{"orders": true, "Orders": false, "": false} {
		if rule.IsWanted(service) != isWanted {
			t.Errorf("%q: %v", service, !isWanted)
		}
	}
}
