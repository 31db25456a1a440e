// Package sightline is the root of the module; the program is cmd/sightline. Its Go identifiers are no API promise.
package sightline
