// Package down carries changes of upper pods down to the lower ones that exist: labels, images and the other fields that
// may change, sizes, ephemeral containers, readiness gates. What the lower cluster refuses is told to the owner once.
package down
