package standin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// Stats are what a stand-in is and has done so far. Counts only grow: what something costs is the difference of two.
type Stats struct {
	Clusters int `json:"clusters"`
	Nodes    int `json:"nodes"` // in all clusters
	Pods     int `json:"pods"`

	ResidentBytes int64   `json:"residentBytes"` // of this process; where the system does not tell, what Go has of it
	PeakBytes     int64   `json:"peakBytes"`     // the most it ever was; 0 where the system does not tell
	CPUSeconds    float64 `json:"cpuSeconds"`

	Watches   int64 `json:"watches"`   // that are open
	Opened    int64 `json:"opened"`    // watches that were opened
	Lists     int64 `json:"lists"`     // calls
	Listed    int64 `json:"listed"`    // objects in them
	Gets      int64 `json:"gets"`      // calls
	Writes    int64 `json:"writes"`    // calls
	Initial   int64 `json:"initial"`   // objects that watches began with
	Events    int64 `json:"events"`    // changes that watches sent
	Bookmarks int64 `json:"bookmarks"` // that watches sent
	Bytes     int64 `json:"bytes"`     // of lists and watches, before TLS

	Churned    int64   `json:"churned"`    // events of pods that were played by themselves
	Heartbeats int64   `json:"heartbeats"` // that were played
	Churn      float64 `json:"churn"`      // events a second that are played
	Heartbeat  string  `json:"heartbeat"`  // how often, per node
}

// Stats are those of this moment.
func (s *Server) Stats() Stats {
	c, rates := &s.counts, s.player.Rates()
	stats := Stats{
		Clusters: len(s.clusters), Watches: c.Watches.Load(), Opened: c.Opened.Load(), Lists: c.Lists.Load(), Listed: c.Listed.Load(),
		Gets: c.Gets.Load(), Writes: c.Writes.Load(), Initial: c.Initial.Load(), Events: c.Events.Load(), Bookmarks: c.Bookmarks.Load(),
		Bytes: c.Bytes.Load(), Churned: s.player.Churned.Load(), Heartbeats: s.player.Beats.Load(),
		Churn: rates.Churn, Heartbeat: rates.Heartbeat.String(), CPUSeconds: cpuSeconds(),
	}
	for _, cluster := range s.clusters {
		stats.Nodes += cluster.Core("nodes").Len()
		stats.Pods += cluster.Core("pods").Len()
	}
	stats.ResidentBytes, stats.PeakBytes = memory()
	return stats
}

// cpuSeconds is the processor time that this process has taken.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

// memory is what of this process is resident now, and the most that ever was.
func memory() (resident, peak int64) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return int64(stats.Sys - stats.HeapReleased), 0
	}
	return kilobytes(text, "VmRSS:"), kilobytes(text, "VmHWM:")
}

func kilobytes(status []byte, key string) int64 {
	_, rest, _ := bytes.Cut(status, []byte(key))
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(string(fields[0]), 10, 64) // The kernel writes numbers.
	return n << 10
}

// controls is the endpoint for who measures: GET /stats, and POST /rates?churn=2000&heartbeat=5m.
func (s *Server) controls() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Stats()) // The client may have gone.
	})
	mux.HandleFunc("POST /rates", func(w http.ResponseWriter, r *http.Request) {
		rates := s.player.Rates()
		query, err := r.URL.Query(), error(nil)
		if query.Has("churn") {
			rates.Churn, err = strconv.ParseFloat(query.Get("churn"), 64)
		}
		if query.Has("heartbeat") && err == nil {
			rates.Heartbeat, err = time.ParseDuration(query.Get("heartbeat"))
		}
		if err != nil || rates.Churn < 0 || rates.Heartbeat < 0 {
			http.Error(w, fmt.Sprintf(`{"error":"rates cannot be read: %v"}`, err), http.StatusBadRequest)
			return
		}
		s.SetRates(rates)
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}
