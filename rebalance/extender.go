package rebalance

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// extender is a client of the extender's POST /v1/avoid.
type extender struct {
	url, caFile, tokenFile string
	avoidFor               time.Duration
}

// avoidTimeout bounds one call: a plan has few moves, and none is urgent.
const avoidTimeout = 3 * time.Second

type avoidRequest struct {
	Owner   snapshot.Owner `json:"owner"`
	Cluster string         `json:"cluster"`
	Seconds int            `json:"seconds"`
	Reason  string         `json:"reason"`
}

// avoid has the owner of the pod avoid its cluster from now on. It may block for avoidTimeout.
func (e *extender) avoid(ctx context.Context, move Move) error {
	body, err := json.Marshal(avoidRequest{
		Owner: move.Owner, Cluster: move.Cluster, Seconds: int(e.avoidFor.Seconds()), Reason: move.Policy,
	})
	if err != nil {
		return fmt.Errorf("encoding avoid request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, avoidTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(e.url, "/")+"/v1/avoid", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("building avoid request: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	client, err := e.client(request)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("calling the extender: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusNoContent {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1024)) // What was read so far says enough.
		return fmt.Errorf("calling the extender: %s: %s", answer.Status, bytes.TrimSpace(text))
	}
	return nil
}

// client reads CA and token anew for every call, because both are rotated; calls are few.
func (e *extender) client(request *http.Request) (*http.Client, error) {
	transport := &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}
	if e.caFile != "" {
		data, err := os.ReadFile(e.caFile)
		if err != nil {
			return nil, fmt.Errorf("reading extenderCAFile: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("reading extenderCAFile %s: no certificate in it", e.caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	if e.tokenFile != "" {
		token, err := os.ReadFile(e.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("reading extenderTokenFile: %w", err)
		}
		request.Header.Set("Authorization", "Bearer "+string(bytes.TrimSpace(token)))
	}
	return &http.Client{Transport: transport}, nil
}
