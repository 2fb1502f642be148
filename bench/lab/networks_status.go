package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
)

// networksFile holds a networksStatus.
const networksFile = "networks.json"

// networksStatus is what status prints of the networks.
type networksStatus struct {
	Networks Networks      `json:"networks"`
	Clusters []placeStatus `json:"clusters"`
}

// placeStatus is where a cluster is.
type placeStatus struct {
	Name      string `json:"name"`
	Address   string `json:"address"`
	APIServer string `json:"apiServer"` // for the other clusters
	Outside   string `json:"outside"`   // the API server for the machine, and inside the namespace
	Pods      string `json:"pods,omitempty"`
	Services  string `json:"services,omitempty"`
	DNS       string `json:"dns,omitempty"`
	Namespace string `json:"namespace"` // for nsenter --net, while the lab runs
}

// writeNetworks notes where the clusters are, for status.
func (l *Lab) writeNetworks() error {
	if l.networks == nil {
		return nil
	}
	status := networksStatus{Networks: l.options.Networks}
	for _, c := range l.clusters {
		p := placeStatus{
			Name: c.name, Address: c.address.String(), APIServer: fmt.Sprintf("https://%s:%d", c.address, c.port), Outside: c.server(),
			Namespace: c.network.File(),
		}
		if c.index > 0 {
			p.Pods, p.Services, p.DNS = podNetwork(c.index).String(), serviceNetwork(c.index).String(), c.dnsAddress().String()
		}
		status.Clusters = append(status.Clusters, p)
	}
	data, err := json.MarshalIndent(status, "", "  ")
	if err != nil {
		return fmt.Errorf("writing where the clusters are: %w", err)
	}
	_, err = l.writeFile(networksFile, data)
	return err
}

// readNetworks is nil for a lab without networks, and before they are known.
func readNetworks(dir string) (*networksStatus, error) {
	data, err := os.ReadFile(filepath.Join(dir, networksFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading where the clusters are: %w", err)
	}
	status := &networksStatus{}
	if err := json.Unmarshal(data, status); err != nil {
		return nil, fmt.Errorf("reading where the clusters are: %w", err)
	}
	return status, nil
}

// print prints a table of the clusters; nothing for a lab without networks.
func (s *networksStatus) print(out io.Writer) error {
	if s == nil {
		return nil
	}
	fmt.Fprintf(out, "networks: %s\n", s.Networks)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CLUSTER\tADDRESS\tAPI SERVER\tPODS\tSERVICES\tDNS\tENTER WITH")
	for _, c := range s.Clusters {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\tnsenter --net=%s\n", c.Name, c.Address, c.APIServer, c.Pods, c.Services, c.DNS, c.Namespace)
	}
	return table.Flush()
}
