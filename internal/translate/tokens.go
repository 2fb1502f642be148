package translate

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Token says whose tokens a pod's ServiceAccount volumes hold below.
type Token string

// The ways.
const (
	TokenNone  Token = "none"  // nobody's: there are no such volumes below
	TokenUpper Token = "upper" // those of the account above, good for the upper cluster
	TokenLower Token = "lower" // those of the account of the same name below
)

// tokenVolume is the prefix that the ServiceAccount admission plugin gives to the volume of its token.
const tokenVolume = "kube-api-access-"

// RootCA is the ConfigMap in which each cluster publishes the CA of its API server. RootCACopy is the lower copy of the upper
// cluster's, for pods with tokens of that.
const (
	RootCA     = "kube-root-ca.crt"
	RootCACopy = "tessera-kube-root-ca.crt"
)

// Lives of tokens, in seconds.
const (
	// injectedLife is what the ServiceAccount admission plugin asks for. An API server gives such a token a year in truth
	// (--service-account-extend-token-expiration), for clients that do not read it again.
	injectedLife = 3607
	defaultLife  = 4 * 60 * 60
	longestLife  = 24 * 60 * 60
	shortestLife = 10 * 60
)

// AccountToken is a token of its upper ServiceAccount that a pod has below.
type AccountToken struct {
	Key      string // in the pod's Secret, see TokenSecret
	Audience string // empty: the API server's own
	Seconds  int64  // how long it is to be good
}

// TokenSecret is the name of the lower Secret with the tokens of an upper pod.
func TokenSecret(upper *corev1.Pod) string { return "tessera-account-" + string(upper.UID) }

// ParseToken reads the annotation tessera.sh/token.
func ParseToken(text string) (Token, error) {
	switch token := Token(text); token {
	case TokenNone, TokenUpper, TokenLower:
		return token, nil
	default:
		return "", fmt.Errorf("annotation %s: %q is none of %s, %s, %s", keys.Token, text, TokenUpper, TokenLower, TokenNone)
	}
}

// tokenOf is whose tokens a pod gets: whose it asks for, or else the upper account's where it has one of its own and the virtual node
// may be trusted with that, and nobody's for the account that every pod has.
func (t Target) tokenOf(pod *corev1.Pod) (Token, error) {
	if text, said := pod.Annotations[keys.Token]; said {
		return ParseToken(text)
	}
	account := pod.Spec.ServiceAccountName
	if account != "" && account != "default" && slices.Contains(t.Rules.Allow, UpperToken) {
		return TokenUpper, nil
	}
	return TokenNone, nil
}

// AccountTokens are the tokens of its upper account that a pod has below, each once; none if it does not get any.
func (t Target) AccountTokens(pod *corev1.Pod) []AccountToken {
	token, err := t.tokenOf(pod)
	if err != nil || token != TokenUpper || !slices.Contains(t.Rules.Allow, UpperToken) {
		return nil
	}
	var wanted []AccountToken
	for _, source := range tokenSources(&pod.Spec) {
		if accountToken(wanted, source) == nil {
			audience, seconds := terms(source)
			wanted = append(wanted, AccountToken{Key: "token-" + strconv.Itoa(len(wanted)), Audience: audience, Seconds: seconds})
		}
	}
	return wanted
}

// accountToken is the one of a source, nil if it is not among them.
func accountToken(tokens []AccountToken, source *corev1.ServiceAccountTokenProjection) *AccountToken {
	audience, seconds := terms(source)
	at := slices.IndexFunc(tokens, func(a AccountToken) bool { return a.Audience == audience && a.Seconds == seconds })
	if at < 0 {
		return nil
	}
	return &tokens[at]
}

// terms are those that a source asks for, within what we ask for.
func terms(source *corev1.ServiceAccountTokenProjection) (audience string, seconds int64) {
	seconds = defaultLife
	if asked := source.ExpirationSeconds; asked != nil && *asked != injectedLife {
		seconds = min(max(*asked, shortestLife), longestLife)
	}
	return source.Audience, seconds
}

// tokenSources are the places in a pod's volumes that a token is put into.
func tokenSources(spec *corev1.PodSpec) (sources []*corev1.ServiceAccountTokenProjection) {
	for i := range spec.Volumes {
		if projected := spec.Volumes[i].Projected; projected != nil {
			for j := range projected.Sources {
				if token := projected.Sources[j].ServiceAccountToken; token != nil {
					sources = append(sources, token)
				}
			}
		}
	}
	return sources
}

// LeftTokens names the volumes of a pod that ask for a token by themselves and get none on the virtual node. What upper admission
// adds to every pod is not among them: most never look at it.
func (t Target) LeftTokens(pod *corev1.Pod) (volumes []string) {
	if token, err := t.tokenOf(pod); err != nil || token != TokenNone {
		return nil
	}
	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		if volume.Projected != nil && !injected(volume) && slices.ContainsFunc(volume.Projected.Sources, ofToken) {
			volumes = append(volumes, volume.Name)
		}
	}
	return volumes
}

func injected(volume *corev1.Volume) bool { return strings.HasPrefix(volume.Name, tokenVolume) }

func ofToken(source corev1.VolumeProjection) bool { return source.ServiceAccountToken != nil }

// translateAccount takes the upper identity from a lower pod: the name of an account means another one there. What the pod has of
// its account instead is what tokenOf says.
func (t Target) translateAccount(upper *corev1.Pod, spec *corev1.PodSpec) error {
	token, err := t.tokenOf(upper)
	if err != nil {
		return err
	}
	if token == TokenLower {
		keepAccount(spec)
		return nil
	}
	spec.ServiceAccountName, spec.DeprecatedServiceAccount = "", ""
	spec.AutomountServiceAccountToken = new(bool)
	if tokens := t.AccountTokens(upper); len(tokens) > 0 {
		mountTokens(spec, tokens, TokenSecret(upper))
		t.Rules.pointUp(spec)
		return nil
	}
	dropTokens(spec)
	return nil
}

// keepAccount leaves the name, and has lower admission add the volume that upper admission had added.
func keepAccount(spec *corev1.PodSpec) {
	spec.DeprecatedServiceAccount = ""
	if !slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool { return injected(&v) }) {
		spec.AutomountServiceAccountToken = new(bool)
	}
	dropInjected(spec)
}

func dropTokens(spec *corev1.PodSpec) {
	dropInjected(spec)
	for i := range spec.Volumes {
		if projected := spec.Volumes[i].Projected; projected != nil {
			projected.Sources = slices.DeleteFunc(projected.Sources, ofToken)
		}
	}
}

// dropInjected takes away the volumes that upper admission added.
func dropInjected(spec *corev1.PodSpec) {
	spec.Volumes = slices.DeleteFunc(spec.Volumes, func(v corev1.Volume) bool { return injected(&v) })
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			containers[i].VolumeMounts = slices.DeleteFunc(containers[i].VolumeMounts,
				func(m corev1.VolumeMount) bool { return strings.HasPrefix(m.Name, tokenVolume) })
		}
	}
}

// mountTokens has a pod's volumes hold the tokens of a Secret, and the CA of the cluster that they are for.
func mountTokens(spec *corev1.PodSpec, tokens []AccountToken, secret string) {
	for i := range spec.Volumes {
		projected := spec.Volumes[i].Projected
		if projected == nil {
			continue
		}
		for j := range projected.Sources {
			source := &projected.Sources[j]
			if source.ServiceAccountToken == nil {
				continue
			}
			*source = corev1.VolumeProjection{Secret: &corev1.SecretProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: secret},
				Items: []corev1.KeyToPath{{
					Key: accountToken(tokens, source.ServiceAccountToken).Key, Path: source.ServiceAccountToken.Path,
				}},
			}}
		}
	}
	for _, name := range configMapNames(spec) {
		if *name == RootCA {
			*name = RootCACopy
		}
	}
}

// Names under which the API server of a cluster is known in it, and the variables that client libraries look for.
var (
	apiNames = []string{"kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "kubernetes.default", "kubernetes"}
	apiHost  = "KUBERNETES_SERVICE_HOST"
	apiPorts = []string{"KUBERNETES_SERVICE_PORT", "KUBERNETES_SERVICE_PORT_HTTPS"}
)

// ParseUpperAPI reads Rules.UpperAPI.
func ParseUpperAPI(text string) (host, port string, err error) {
	parsed, err := url.Parse(text)
	if err != nil || parsed.Scheme != "https" || parsed.Hostname() == "" || strings.Trim(parsed.Path, "/") != "" || parsed.RawQuery != "" {
		return "", "", fmt.Errorf("%q is no URL such as https://192.0.2.1:6443", text)
	}
	if port = parsed.Port(); port == "" {
		port = "443"
	}
	return parsed.Hostname(), port, nil
}

// pointUp has the containers of a pod find the upper API server: by the variables that a kubelet would set to the lower one, and by
// its names where their port is that of the server.
func (r Rules) pointUp(spec *corev1.PodSpec) {
	host, port, err := ParseUpperAPI(r.UpperAPI)
	if err != nil {
		return // It is not said, or wrong, which virtualnode does not start with.
	}
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			var found []corev1.EnvVar
			for name, value := range map[string]string{apiHost: host, apiPorts[0]: port, apiPorts[1]: port} {
				if !slices.ContainsFunc(containers[i].Env, func(e corev1.EnvVar) bool { return e.Name == name }) {
					found = append(found, corev1.EnvVar{Name: name, Value: value})
				}
			}
			slices.SortFunc(found, func(a, b corev1.EnvVar) int { return strings.Compare(a.Name, b.Name) })
			containers[i].Env = append(found, containers[i].Env...)
		}
	}
	if address, err := netip.ParseAddr(host); err == nil && port == "443" {
		spec.HostAliases = append(spec.HostAliases, corev1.HostAlias{IP: address.String(), Hostnames: apiNames})
	}
}
