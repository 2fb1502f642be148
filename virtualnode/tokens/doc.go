// Package tokens gives pods below the tokens of their ServiceAccounts above: each such pod has a Secret of its own there, which its
// volumes are filled from, as a kubelet would fill them. A token is bound to the upper pod, so it ends with that.
package tokens
