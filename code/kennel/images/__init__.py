"""From folders of files to arrays of pixels."""
