package extender

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/tessera-k8s/tessera/internal/serve"
	"github.com/tessera-k8s/tessera/internal/wire"
)

// routes is every route of the extender with who may call it.
func (e *Extender) routes(guard *serve.Guard) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.HandleMethodNotAllowed = true
	router.Use(gin.CustomRecoveryWithWriter(io.Discard, e.recovered), limit)
	router.NoRoute(func(c *gin.Context) { fail(c, http.StatusNotFound, "no such route: see the extender's README") })
	router.NoMethod(func(c *gin.Context) {
		fail(c, http.StatusMethodNotAllowed, "the route exists, but not for this method")
	})

	scheduler := router.Group("/scheduler", through(serve.ClientCertificate))
	scheduler.POST("/filter", e.verb("filter", func(body []byte) any {
		args, err := wire.ReadArgs(body)
		if err != nil {
			return &extenderv1.ExtenderFilterResult{Error: err.Error()}
		}
		return e.filter(args)
	}))
	scheduler.POST("/prioritize", e.verb("prioritize", func(body []byte) any {
		args, err := wire.ReadArgs(body)
		if err != nil {
			return extenderv1.HostPriorityList{} // The verb has no field for an error.
		}
		return e.prioritize(args)
	}))
	scheduler.POST("/preempt", e.verb("preempt", func(body []byte) any {
		args, err := wire.ReadPreemption(body)
		if err != nil {
			return &extenderv1.ExtenderPreemptionResult{}
		}
		return e.preempt(args)
	}))
	scheduler.POST("/bind", e.verb("bind", func(body []byte) any {
		args, err := wire.ReadBinding(body)
		if err != nil {
			return &extenderv1.ExtenderBindingResult{Error: err.Error()}
		}
		return e.bind(args)
	}))

	guarded := router.Group("/", through(guard.Bearer))
	guarded.GET("/debug/clusters", e.debugClusters)
	guarded.GET("/debug/clusters/:name", e.debugCluster)
	guarded.GET("/debug/holds", e.debugHolds)
	guarded.GET("/debug/pods/:namespace/:name", e.debugPod)
	guarded.POST("/debug/whatif", e.debugWhatif)
	guarded.GET("/debug/fragmentation", e.debugFragmentation)
	guarded.POST("/v1/holds", e.postHold)
	guarded.GET("/v1/holds/:uid", e.getHold)
	guarded.DELETE("/v1/holds/:uid", e.deleteHold)
	guarded.POST("/v1/avoid", e.postAvoid)
	guarded.GET("/metrics", gin.WrapH(serve.Metrics(e.metrics.registry)))
	guarded.GET("/debug/pprof/*profile", gin.WrapH(serve.Profiles()))

	health := http.NewServeMux()
	serve.HealthOf(health, e.liveness, e.readiness)
	router.GET("/healthz", gin.WrapH(health))
	router.GET("/readyz", gin.WrapH(health))
	return router
}

// verb answers kube-scheduler: always 200 and in one write, as it throws the body of anything else away and
// closes the connection.
func (e *Extender) verb(name string, answer func(body []byte) any) gin.HandlerFunc {
	return func(c *gin.Context) {
		started := time.Now()
		body, err := io.ReadAll(c.Request.Body)
		if err != nil {
			body = nil // The decoder says what is wrong with it.
		}
		data := e.encode(name, func() any { return answer(body) })
		c.Header("Content-Length", strconv.Itoa(len(data))) // Else a long answer goes out in chunks.
		c.Data(http.StatusOK, "application/json", data)
		e.metrics.duration.WithLabelValues(name).Observe(time.Since(started).Seconds())
	}
}

// encode runs a verb. Whatever happens in it, the scheduler gets an answer it reads.
func (e *Extender) encode(name string, answer func() any) (data []byte) {
	fault := func(what any) {
		e.log.Error("Answering the scheduler failed", "verb", name, "what", what)
		data = []byte(`{"Error":"internal fault, see the extender's log"}`)
	}
	defer func() {
		if what := recover(); what != nil {
			fault(what)
		}
	}()
	data, err := json.Marshal(answer())
	if err != nil {
		fault(err)
	}
	return data
}

func (e *Extender) postAvoid(c *gin.Context) {
	now := time.Now()
	entry, ok := decoded(c, func(body []byte) (*wire.AvoidEntry, error) { return wire.ReadAvoid(body, now) })
	if !ok {
		return
	}
	if err := e.avoid.add(c.Request.Context(), now, entry); err != nil {
		e.log.Error("Writing the avoid list failed, it holds in memory alone", "err", err)
	}
	e.log.Info("Cluster is avoided", "owner", entry.Owner.Namespace+"/"+entry.Owner.Name, "cluster", entry.Cluster, "until", entry.Until)
	c.Status(http.StatusNoContent)
}

// decoded reads the body of a request. Where that fails the caller has got an answer, and ok is false.
func decoded[T any](c *gin.Context, decode func(body []byte) (T, error)) (request T, ok bool) {
	body, err := io.ReadAll(c.Request.Body)
	if err != nil {
		fail(c, http.StatusBadRequest, fmt.Sprintf("reading body (at most %d bytes): %s", wire.LargestBody, err))
		return request, false
	}
	if request, err = decode(body); err != nil {
		fail(c, http.StatusBadRequest, err.Error())
		return request, false
	}
	return request, true
}

func fail(c *gin.Context, status int, text string) {
	c.AbortWithStatusJSON(status, gin.H{"error": text})
}

func limit(c *gin.Context) {
	c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, wire.LargestBody)
}

// through runs a check made for net/http in front of gin's handlers.
func through(check func(http.Handler) http.Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		passed := false
		check(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed = true })).ServeHTTP(c.Writer, c.Request)
		if !passed {
			c.Abort()
		}
	}
}

func (e *Extender) recovered(c *gin.Context, what any) {
	e.log.Error("Answering a request panicked", "path", c.Request.URL.Path, "what", fmt.Sprint(what))
	fail(c, http.StatusInternalServerError, "internal fault, see the extender's log")
}
