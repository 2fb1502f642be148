package api

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/tessera-k8s/tessera/bench/standin/objects"
	"github.com/tessera-k8s/tessera/bench/standin/rows"
)

// Kind is a kind of object that is served.
type Kind struct {
	schema.GroupVersionKind
	Resource   string
	Short      string
	Namespaced bool
	// Status: there is a subresource status, and the object itself does not change with it.
	Status bool
	// Returned: who deletes one gets the object, not a Status.
	Returned bool
	// More are further subresources.
	More []string
}

func core(kind, resource, short string) Kind {
	return Kind{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: kind}, Resource: resource, Short: short}
}

func of(group, kind, resource, short string) Kind {
	return Kind{GroupVersionKind: schema.GroupVersionKind{Group: group, Version: "v1", Kind: kind}, Resource: resource, Short: short}
}

func (k Kind) namespaced() Kind { k.Namespaced = true; return k }
func (k Kind) status() Kind     { k.Status = true; return k }
func (k Kind) returned() Kind   { k.Returned = true; return k }

func (k Kind) with(subresources ...string) Kind { k.More = subresources; return k }

// Kinds are all that is served: what Tessera's parts watch, read or write below, and what kubectl needs for these.
func Kinds() []Kind {
	return []Kind{
		core("Node", "nodes", "no").status(),
		core("Pod", "pods", "po").namespaced().status().returned().with("binding", "ephemeralcontainers", "eviction", "resize"),
		core("Namespace", "namespaces", "ns").status().returned(),
		core("Event", "events", "ev").namespaced(),
		core("LimitRange", "limitranges", "limits").namespaced(),
		core("ResourceQuota", "resourcequotas", "quota").namespaced().status().returned(),
		core("PersistentVolumeClaim", "persistentvolumeclaims", "pvc").namespaced().status().returned(),
		core("PersistentVolume", "persistentvolumes", "pv").status().returned(),
		core("ServiceAccount", "serviceaccounts", "sa").namespaced().returned(),
		core("ConfigMap", "configmaps", "cm").namespaced(),
		core("Secret", "secrets", "").namespaced(),
		core("Service", "services", "svc").namespaced().status().returned(),
		of("coordination.k8s.io", "Lease", "leases", "").namespaced(),
		of("discovery.k8s.io", "EndpointSlice", "endpointslices", "").namespaced(),
		of("networking.k8s.io", "NetworkPolicy", "networkpolicies", "netpol").namespaced(),
		of("node.k8s.io", "RuntimeClass", "runtimeclasses", ""),
		of("policy", "PodDisruptionBudget", "poddisruptionbudgets", "pdb").namespaced().status(),
		of("resource.k8s.io", "DeviceClass", "deviceclasses", "").returned(),
		of("resource.k8s.io", "ResourceClaim", "resourceclaims", "").namespaced().status().returned(),
		of("resource.k8s.io", "ResourceClaimTemplate", "resourceclaimtemplates", "").namespaced().returned(),
		of("resource.k8s.io", "ResourceSlice", "resourceslices", "").returned(),
		of("scheduling.k8s.io", "PriorityClass", "priorityclasses", "pc"),
		of("storage.k8s.io", "CSIDriver", "csidrivers", "").returned(),
		of("storage.k8s.io", "CSINode", "csinodes", "").returned(),
		of("storage.k8s.io", "CSIStorageCapacity", "csistoragecapacities", "").namespaced(),
		of("storage.k8s.io", "StorageClass", "storageclasses", "sc").returned(),
		of("storage.k8s.io", "VolumeAttachment", "volumeattachments", "").status().returned(),
	}
}

// Resource is a kind in one cluster.
type Resource struct {
	Kind
	*rows.Table
	Maker objects.Maker // nil if the table has objects alone
}

// Cluster is one lower cluster: what it is called, who may ask, and what is in it.
type Cluster struct {
	Name, Token string
	Store       *rows.Store
	resources   map[schema.GroupResource]*Resource
}

// NewCluster returns a cluster without objects. makers are those of tables with rows, by resource.
func NewCluster(name, token string, makers map[string]objects.Maker) *Cluster {
	c := &Cluster{Name: name, Token: token, Store: rows.NewStore(), resources: map[schema.GroupResource]*Resource{}}
	for _, kind := range Kinds() {
		r := &Resource{Kind: kind, Maker: makers[kind.Resource]}
		r.Table = c.Store.NewTable(nil)
		if r.Maker != nil {
			r.Table = c.Store.NewTable(r.Maker)
		}
		c.resources[schema.GroupResource{Group: kind.Group, Resource: kind.Resource}] = r
	}
	return c
}

// Core returns a resource of the core group, which has it.
func (c *Cluster) Core(resource string) *Resource {
	return c.resources[schema.GroupResource{Resource: resource}]
}

// InNamespaces returns the resources that have namespaces, in the order of Kinds.
func (c *Cluster) InNamespaces() []*Resource {
	var all []*Resource
	for _, kind := range Kinds() {
		if kind.Namespaced {
			all = append(all, c.resources[schema.GroupResource{Group: kind.Group, Resource: kind.Resource}])
		}
	}
	return all
}

// make returns a new object of the kind.
func (k Kind) make() objects.Object {
	object, err := scheme.Scheme.New(k.GroupVersionKind)
	if err != nil {
		panic(err) // All kinds are in client-go's scheme.
	}
	return object.(objects.Object)
}

func (k Kind) groupResource() schema.GroupResource {
	return schema.GroupResource{Group: k.Group, Resource: k.Resource}
}

// groups are the API groups that are served but for the core one, sorted.
func groups() []string {
	names := []string{authorizationGroup}
	for _, kind := range Kinds() {
		if kind.Group != "" {
			names = append(names, kind.Group)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// singular is the name of one object of a kind.
func (k Kind) singular() string { return strings.ToLower(k.Kind) }
