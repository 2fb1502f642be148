// Package objects brings the ConfigMaps and Secrets that pods name to the lower cluster, and takes them away when no pod needs them
// any more. Above, each object that is named is watched by itself (Sources), so what is not named costs nothing; below, a Keeper for
// each virtual node makes, changes and deletes. What is wanted is computed from the pods each time, never counted.
package objects
