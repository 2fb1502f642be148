package translate

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// NotAllowed is the error for a pod that asks for a power which the virtual node does not let through.
type NotAllowed struct {
	VirtualNode string
	Power       Power
	// Field is what asks for it, such as spec.volumes[data].hostPath.
	Field string
}

// Error names the field and the key of the configuration that would let it through.
func (e *NotAllowed) Error() string {
	return fmt.Sprintf("%s is not allowed on virtual node %s: take it out, or have allow: [%s] in virtualnode's configuration",
		e.Field, e.VirtualNode, e.Power)
}

// allows returns a *NotAllowed for the first power that the pod asks for and the rules do not let through.
func (t Target) allows(pod *corev1.Pod) error {
	for _, asked := range demands(pod) {
		if !slices.Contains(t.Rules.Allow, asked.Power) {
			asked.VirtualNode = t.VirtualNode
			return &asked
		}
	}
	return nil
}

// demands lists the powers that a pod asks for.
func demands(pod *corev1.Pod) []NotAllowed {
	var asked []NotAllowed
	spec := &pod.Spec
	ask := func(yes bool, power Power, field string, args ...any) {
		if yes {
			asked = append(asked, NotAllowed{Power: power, Field: fmt.Sprintf(field, args...)})
		}
	}
	token := Token(pod.Annotations[keys.Token])
	ask(token == TokenUpper, UpperToken, "metadata.annotations[%s]=%s", keys.Token, token)
	ask(token == TokenLower, LowerAccount, "metadata.annotations[%s]=%s", keys.Token, token)
	ask(spec.HostNetwork, HostNamespaces, "spec.hostNetwork")
	ask(spec.HostPID, HostNamespaces, "spec.hostPID")
	ask(spec.HostIPC, HostNamespaces, "spec.hostIPC")
	for i := range spec.Volumes {
		ask(spec.Volumes[i].HostPath != nil, HostPath, "spec.volumes[%s].hostPath", spec.Volumes[i].Name)
	}
	if whole := spec.SecurityContext; whole != nil {
		ask(hostProcess(whole.WindowsOptions), Privileged, "spec.securityContext.windowsOptions.hostProcess")
	}
	container := func(list, name string, c *corev1.SecurityContext) {
		if c != nil {
			ask(c.Privileged != nil && *c.Privileged, Privileged, "spec.%s[%s].securityContext.privileged", list, name)
			ask(hostProcess(c.WindowsOptions), Privileged, "spec.%s[%s].securityContext.windowsOptions.hostProcess", list, name)
		}
	}
	for i := range spec.InitContainers {
		container("initContainers", spec.InitContainers[i].Name, spec.InitContainers[i].SecurityContext)
	}
	for i := range spec.Containers {
		container("containers", spec.Containers[i].Name, spec.Containers[i].SecurityContext)
	}
	for i := range spec.EphemeralContainers {
		container("ephemeralContainers", spec.EphemeralContainers[i].Name, spec.EphemeralContainers[i].SecurityContext)
	}
	return asked
}

// hostProcess is what being privileged is called on Windows.
func hostProcess(options *corev1.WindowsSecurityContextOptions) bool {
	return options != nil && options.HostProcess != nil && *options.HostProcess
}
