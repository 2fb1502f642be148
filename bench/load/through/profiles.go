package through

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/bench/lab"
)

// profileSeconds is how long processor profiles are taken: shorter than any burst that is worth one.
const profileSeconds = "8"

// profile takes processor profiles of both API servers and, if it runs, of virtualnode while a load is under way, as
// FOLDER/NAME-PROCESS.pb.gz for `go tool pprof`. The function it returns waits for them. Without a folder it does nothing.
func (s *site) profile(ctx context.Context, name string) (wait func()) {
	var group sync.WaitGroup
	if s.profiles == "" {
		return group.Wait
	}
	take := func(process string, get func() ([]byte, error)) {
		group.Go(func() {
			data, err := get()
			if err == nil {
				err = os.WriteFile(filepath.Join(s.profiles, name+"-"+process+".pb.gz"), data, 0o644) //nolint:gosec // For everyone.
			}
			if err != nil {
				s.progress("no profile of %s: %v", process, err)
			}
		})
	}
	for process, c := range map[string]kubernetes.Interface{"upper": s.upper, "lower": s.lower} {
		take(process, func() ([]byte, error) {
			return c.CoreV1().RESTClient().Get().AbsPath("/debug/pprof/profile").Param("seconds", profileSeconds).DoRaw(ctx)
		})
	}
	if !s.virtualNode().Exited() {
		take(lab.PartVirtualNode, func() ([]byte, error) {
			return get(ctx, s.lab.PartURL(lab.PartVirtualNode)+"/debug/pprof/profile?seconds="+profileSeconds)
		})
	}
	return group.Wait
}

func get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", url, answer.Status)
	}
	return io.ReadAll(answer.Body)
}
