package main

import (
	_ "embed"

	"wit_component/export_keptn_distributor_lifecycle"
)

//go:embed config-schema.json
var schema string

// A file may be embedded only where it lies.
func init() {
	export_keptn_distributor_lifecycle.Schema = schema
}
