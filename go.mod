module github.com/transferpy/transferpy

go 1.25.0
