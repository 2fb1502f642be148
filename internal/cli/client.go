package cli

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

	"github.com/spf13/cobra"
)

// extenderFlags say which extender to ask, and as whom.
type extenderFlags struct{ daemonFlags }

func (f *extenderFlags) add(command *cobra.Command) {
	f.daemonFlags.add(command, "extender")
	f.addOutput(command)
}

// daemonFlags say which daemon to ask, and as whom.
type daemonFlags struct {
	daemon                 string // extender or virtualnode: also the name of the flag that takes its URL
	url, caFile, tokenFile string
	output                 string // table unless a flag says otherwise
}

func (f *daemonFlags) add(command *cobra.Command, daemon string) {
	f.daemon, f.output = daemon, "table"
	variable := "TESSERA_" + strings.ToUpper(daemon)
	flags := command.Flags()
	flags.StringVar(&f.url, daemon, os.Getenv(variable), "URL of the "+daemon+" (default $"+variable+")")
	flags.StringVar(&f.caFile, "ca-file", "", "CA of the "+daemon+"'s certificate, PEM")
	flags.StringVar(&f.tokenFile, "token-file", "", "file with a bearer token, as `kubectl create token` gives it")
}

func (f *daemonFlags) addOutput(command *cobra.Command) {
	command.Flags().StringVarP(&f.output, "output", "o", f.output, "table or json")
}

// ask sends a request, body nil for GET, and decodes the answer into result. With -o json the answer goes to out as
// it is, and printed is true.
func (f *daemonFlags) ask(ctx context.Context, out io.Writer, path string, body []byte, result any) (printed bool, err error) {
	if f.output != "table" && f.output != "json" {
		return false, fmt.Errorf("--output: %q is neither table nor json", f.output)
	}
	data, err := f.send(ctx, path, body)
	if err != nil {
		return false, err
	}
	if f.output == "json" {
		var indented bytes.Buffer
		if err := json.Indent(&indented, data, "", "  "); err != nil {
			return false, fmt.Errorf("reading the %s's answer: %w", f.daemon, err)
		}
		_, err := fmt.Fprintln(out, indented.String())
		return true, err
	}
	if err := json.Unmarshal(data, result); err != nil {
		return false, fmt.Errorf("reading the %s's answer: %w", f.daemon, err)
	}
	return false, nil
}

func (f *daemonFlags) send(ctx context.Context, path string, body []byte) ([]byte, error) {
	if f.url == "" {
		return nil, fmt.Errorf("--%[1]s: no URL given; in the cluster: "+
			"kubectl -n tessera-system port-forward service/tessera-%[1]s 10260, then --%[1]s https://127.0.0.1:10260", f.daemon)
	}
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(f.url, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", f.daemon, err)
	}
	client, err := f.client(request)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking the %s: %w", f.daemon, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the %s's answer: %w", f.daemon, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking the %s: %s: %s", f.daemon, response.Status, refusal(data))
	}
	return data, nil
}

// client honours the flags about TLS and the token.
func (f *daemonFlags) client(request *http.Request) (*http.Client, error) {
	client := &http.Client{Timeout: 30 * time.Second}
	if f.caFile != "" {
		data, err := os.ReadFile(f.caFile)
		if err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("--ca-file: no certificate in %s", f.caFile)
		}
		client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	}
	if f.tokenFile != "" {
		token, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	return client, nil
}

// refusal is the text of {"error": text}, or the body as it came.
func refusal(data []byte) string {
	var answer struct{ Error string }
	if json.Unmarshal(data, &answer) == nil && answer.Error != "" {
		return answer.Error
	}
	return strings.TrimSpace(string(data))
}
