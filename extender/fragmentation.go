package extender

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"
	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/snapshot"
	"github.com/tessera-k8s/tessera/internal/translate"
)

// fragmentationJSON is what GET /debug/fragmentation says of one cluster, or of all as one.
type fragmentationJSON struct {
	StrandedRatio float64           `json:"strandedRatio"` // part of what is free that the pods alive now cannot use
	GapPods       int64             `json:"gapPods"`       // pods that the free sum promises and no node takes
	LargestHole   map[string]string `json:"largestHole"`
	Classes       []classJSON       `json:"classes"`
}

// classJSON is the same as pods of one shape see it.
type classJSON struct {
	Requests      map[string]string `json:"requests"`
	Count         int               `json:"count"` // pods alive now that have this shape
	StrandedRatio float64           `json:"strandedRatio"`
	GapPods       int64             `json:"gapPods"`
}

type clusterFragmentationJSON struct {
	Name string `json:"name"`
	fragmentationJSON
}

// mostClasses bounds the answer: the most frequent shapes speak for nearly all pods.
const mostClasses = 20

// debugFragmentation says how well the free room of the clusters suits the pods that are alive now. The total takes the
// nodes of all clusters as one, so its gap may be larger than the sum of theirs.
func (e *Extender) debugFragmentation(c *gin.Context) {
	classes := e.classes()
	clusters := []clusterFragmentationJSON{}
	var all []snapshot.Resources
	e.mu.Lock()
	holes := map[string][]snapshot.Resources{}
	for _, name := range e.pool.Clusters() {
		holes[name] = e.pool.Holes(name)
	}
	e.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(holes)) {
		clusters = append(clusters, clusterFragmentationJSON{Name: name, fragmentationJSON: describeFragments(holes[name], classes)})
		all = append(all, holes[name]...)
	}
	c.JSON(http.StatusOK, gin.H{"total": describeFragments(all, classes), "clusters": clusters})
}

// classes are the most frequent shapes of Tessera's pods that are alive, as they are below.
func (e *Extender) classes() []snapshot.Class {
	nodes := e.upper.virtualNodes()
	if len(nodes) == 0 {
		return nil
	}
	found := map[string]*snapshot.Class{}
	for _, object := range e.upper.pods.GetStore().List() {
		pod := object.(*corev1.Pod)
		if !translate.Marked(pod) || snapshot.Finished(pod) {
			continue
		}
		node := cmp.Or(e.upper.virtualNode(pod.Spec.NodeName), nodes[0])
		below, err := e.compile(pod, node)
		if err != nil {
			continue // Its constraints cannot be read: it runs nowhere.
		}
		shape := fmt.Sprint(below.Requests.Quantities())
		if found[shape] == nil {
			found[shape] = &snapshot.Class{Requests: below.Requests}
		}
		found[shape].Count++
	}
	shapes := slices.SortedFunc(maps.Keys(found), func(a, b string) int {
		return cmp.Or(cmp.Compare(found[b].Count, found[a].Count), cmp.Compare(a, b))
	})
	var classes []snapshot.Class
	for _, shape := range shapes[:min(len(shapes), mostClasses)] {
		classes = append(classes, *found[shape])
	}
	return classes
}

func describeFragments(free []snapshot.Resources, classes []snapshot.Class) fragmentationJSON {
	f := snapshot.Fragment(free, classes)
	described := fragmentationJSON{
		StrandedRatio: ratio(f.Stranded), GapPods: f.Gap, LargestHole: f.LargestHole.Quantities(), Classes: []classJSON{},
	}
	for _, class := range f.Classes {
		described.Classes = append(described.Classes, classJSON{
			Requests: class.Requests.Quantities(), Count: class.Count, StrandedRatio: ratio(class.Stranded), GapPods: class.Gap,
		})
	}
	return described
}

func ratio(r float64) float64 { return math.Round(r*1000) / 1000 }
