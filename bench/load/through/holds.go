package through

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// holds plays the extender: it has a hold for every pod, on one node after the other.
type holds struct {
	server *http.Server
	url    string
	asked  atomic.Int64
}

// startHolds listens on loopback until close.
func startHolds(cluster string, nodes int, name func(i int) string) (*holds, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for questions about holds: %w", err)
	}
	h := &holds{url: "http://" + listener.Addr().String()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/holds/{uid}", func(w http.ResponseWriter, r *http.Request) {
		node := name(1 + int(h.asked.Add(1))%nodes)
		_ = json.NewEncoder(w).Encode(map[string]string{ // Whoever asked has gone.
			"uid": r.PathValue("uid"), "cluster": cluster, "node": node, "state": "bound",
		})
	})
	h.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = h.server.Serve(listener) }() // Ends with close.
	return h, nil
}

func (h *holds) close() { _ = h.server.Close() }
