package serve

import (
	"net/http"
	"net/http/pprof"
	"time"
)

// Profiles serves net/http/pprof under /debug/pprof/. What that package registers by itself on the default mux is not used.
func Profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // Else a longer profile ends with the server's ReadTimeout.
		mux.ServeHTTP(w, r)
	})
}
