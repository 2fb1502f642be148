package pair

import "errors"

// ErrForeign is an object below that somebody else made, under the name of one that is needed there.
var ErrForeign = errors.New("the name is taken in the lower cluster by what Tessera has not made for this upper cluster; " +
	"namespacePrefix in virtualnode's configuration would keep the two apart")
