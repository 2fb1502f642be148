package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tessera-k8s/tessera/internal/ask"
)

// timeout bounds one question: a person waits for the answer.
const timeout = 30 * time.Second

// extenderFlags say which extender to ask, and as whom.
type extenderFlags struct{ daemonFlags }

func (f *extenderFlags) add(command *cobra.Command) {
	f.daemonFlags.add(command, "extender")
	f.addOutput(command)
}

// reach is the client of the extender.
func (f *extenderFlags) reach() (*ask.Extender, error) {
	daemon, err := f.daemonFlags.reach()
	if err != nil {
		return nil, err
	}
	return &ask.Extender{Daemon: daemon}, nil
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

// reach is the client of the daemon.
func (f *daemonFlags) reach() (*ask.Daemon, error) {
	if f.output != "table" && f.output != "json" {
		return nil, fmt.Errorf("--output: %q is neither table nor json", f.output)
	}
	if f.url == "" {
		return nil, fmt.Errorf("--%[1]s: no URL given; in the cluster: "+
			"kubectl -n tessera-system port-forward service/tessera-%[1]s 10260, then --%[1]s https://127.0.0.1:10260", f.daemon)
	}
	return &ask.Daemon{Name: f.daemon, URL: f.url, CAFile: f.caFile, TokenFile: f.tokenFile, Timeout: timeout, UserAgent: "tessera"}, nil
}

// printAnswer prints an answer as a table, or with -o json as it came.
func printAnswer[T any](f *daemonFlags, out io.Writer, answer ask.Answer[T], table func(out io.Writer, answer T) error) error {
	if f.output == "table" {
		return table(out, answer.Value)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, answer.Raw, "", "  "); err != nil {
		return fmt.Errorf("reading the %s's answer: %w", f.daemon, err)
	}
	_, err := fmt.Fprintln(out, indented.String())
	return err
}
