package mesh

import (
	"encoding/json"
	"fmt"
)

// Bootstrap returns the value of GRPC_XDS_BOOTSTRAP_CONFIG for a process that calls others as caller, from the control
// plane at serverAddr (host:port). instance tells the caller's replicas apart. The variable must be set before exec:
// grpc reads it when its package is initialised.
func Bootstrap(serverAddr, caller, instance string) string {
	type creds struct {
		Type string `json:"type"`
	}
	type server struct {
		URI      string   `json:"server_uri"`
		Creds    []creds  `json:"channel_creds"`
		Features []string `json:"server_features"`
	}
	type node struct {
		ID      string `json:"id"`
		Cluster string `json:"cluster"`
	}
	type bootstrap struct {
		Servers []server `json:"xds_servers"`
		Node    node     `json:"node"`
	}
	document, err := json.Marshal(bootstrap{
		Servers: []server{{URI: serverAddr, Creds: []creds{{Type: "insecure"}}, Features: []string{"xds_v3"}}},
		Node:    node{ID: caller + "/" + instance, Cluster: caller},
	})
	if err != nil {
		panic(fmt.Sprintf("mesh: encode a bootstrap of plain strings: %v", err))
	}
	return string(document)
}
