package lower

import (
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func TestDevices(t *testing.T) {
	t.Parallel()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	d := NewDevices(client, slog.New(slog.DiscardHandler), func() {})
	add := func(k *kind, object any) {
		t.Helper()
		if err := k.informer.GetStore().Add(object); err != nil {
			t.Fatal(err)
		}
	}
	name := "example.com/gpu"
	add(d.classes, &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "gpu"}, Spec: resourcev1.DeviceClassSpec{ExtendedResourceName: &name}})
	add(d.classes, &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "nic"}})
	if got := d.Most(); len(got) != 0 {
		t.Errorf("without a device %v can be had", got)
	}
	for slice, devices := range map[string]int{"a": 3, "b": 2} {
		entry, err := countDevices(&resourcev1.ResourceSlice{
			ObjectMeta: metav1.ObjectMeta{Name: slice}, Spec: resourcev1.ResourceSliceSpec{Devices: make([]resourcev1.Device, devices)},
		})
		if err != nil {
			t.Fatal(err)
		}
		add(d.slices, entry)
	}
	want := map[corev1.ResourceName]int64{
		"example.com/gpu": 5, "deviceclass.resource.kubernetes.io/gpu": 5, "deviceclass.resource.kubernetes.io/nic": 5,
	}
	if diff := cmp.Diff(want, d.Most()); diff != "" {
		t.Error(diff)
	}
}
