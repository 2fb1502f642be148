package virtualnode_test

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
)

// conformanceFile is what make conformance writes.
const conformanceFile = "../docs/conformance.md"

// verdict is what became of a spec.
type verdict struct{ name, result, why string }

// Results of specs.
const (
	resultPass = "pass"
	resultFail = "fail"
	resultNot  = "not applicable"
	resultLeft = "not run"
)

// judge gives each of Kubernetes' own specs its verdict. faults are those that have none yet, or a wrong one.
func judge(all, ran []spec) (verdicts []verdict, faults []string) {
	became := map[string]spec{}
	for _, s := range ran {
		became[s.Name] = s
	}
	for _, s := range all {
		v := verdict{name: s.Name}
		run, did := became[s.Name]
		known := knownFailure(s.Name)
		switch {
		case s.left() != "":
			v.result, v.why = resultLeft, s.left()
		case s.applies() != "":
			v.result, v.why = resultNot, s.applies()
		case !did:
			faults = append(faults, s.Name+": did not run")
			continue
		case run.State == "passed":
			v.result = resultPass
			if known.why != "" {
				faults = append(faults, s.Name+": passes, and is known to fail")
			}
		case run.State == "skipped":
			v.result, v.why = resultNot, firstLine(run.Message)
		default:
			v.result, v.why = cmp.Or(known.result, resultFail), known.why
			if known.why == "" {
				faults = append(faults, s.Name+": "+run.State+": "+run.Message)
			}
		}
		verdicts = append(verdicts, v)
	}
	slices.SortFunc(verdicts, func(a, b verdict) int { return strings.Compare(a.name, b.name) })
	return verdicts, faults
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// knownFailure is the verdict on a spec that is known not to pass; empty for the others.
func knownFailure(name string) verdict {
	for _, v := range knownFailures {
		if strings.Contains(name, v.name) {
			return v
		}
	}
	return verdict{}
}

// writeConformance writes the verdicts down.
func writeConformance(verdicts []verdict) error {
	count := map[string]int{}
	for _, v := range verdicts {
		count[v.result]++
	}
	var out strings.Builder
	fmt.Fprintf(&out, conformanceIntro, len(verdicts), count[resultPass], count[resultFail], count[resultLeft], count[resultNot])
	for _, result := range []string{resultFail, resultPass, resultLeft, resultNot} {
		fmt.Fprintf(&out, "\n## %s\n\n| spec | why |\n|---|---|\n", strings.ToUpper(result[:1])+result[1:])
		for _, v := range verdicts {
			if v.result == result {
				fmt.Fprintf(&out, "| %s | %s |\n", cell(v.name), cell(v.why))
			}
		}
	}
	return os.WriteFile(conformanceFile, []byte(out.String()), 0o600)
}

// cell is a text as Markdown's tables take it.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`, "<", `\<`, "\n", " ").Replace(text)
}

const conformanceIntro = `# Kubernetes' own specs, on virtual nodes

What Kubernetes' end-to-end specs of pods and their network (` + "`test/e2e/common/node`, `/network`" + `) say to an upper cluster that has virtual
nodes and no others: two lower clusters with a real node each, kubelet, containerd and kube-proxy, in a flat network. Written by
` + "`make conformance`" + `; ten of them run in ` + "`make test-real`" + `.

%d specs: %d pass, %d fail, %d are not run (slow, serial, disruptive and flaky ones), %d do not apply here (features that not every cluster
has, other operating systems, images that cannot be made from source).

- Namespaces of specs carry ` + "`tessera.sh/enabled=true`" + `. Specs are shown the Nodes without the taint ` + "`tessera.sh/virtual`" + `, and with the host name
  of the lower node, since they choose among Nodes without taints by host name ([0007](decisions/0007-no-topology-labels.md)).
- Images are built from Kubernetes' sources (agnhost, nonewprivs) and Debian's busybox and bash ([bench/third](../bench/third/README.md)).
`

// knownFailures are specs that do not pass, by a part of their names, and why.
var knownFailures = []verdict{
	{"Pod InPlace Resize Container", resultFail, "the resources of containers hold the mark `tessera.sh/pod: 0`, which the spec does not expect; " +
		"the resize itself is done (TestRealResize). A mark that is no resource would mend it"},
	{"RuntimeClass should schedule a Pod requesting a RuntimeClass", resultFail, "a RuntimeClass of the upper cluster is not brought to lower ones " +
		"([limits](limits.md)), and containerd has no handler for that of the spec here"},
	{"PodOSRejection", resultFail, "a pod that names its node by itself has no mark of admission, and is refused (`NotAdmitted`) before a kubelet " +
		"could say `PodOSNotSupported`"},
	{"should function for node-pod communication: udp", resultFail, "nc is a script of ours in the image here, and hears no answer on the network of " +
		"a node; UDP between pods passes"},
	{"PrivilegedPod", resultNot, "the kernel that this was written on makes no interfaces of type dummy"},
	{"ImageVolume", resultNot, "an image that cannot be made from source"},
	{"Kubelet when scheduling a read only busybox container", resultNot, "expects the words of busybox's own shell, in whose place bash is here"},
}
