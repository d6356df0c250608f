"""`logist bundle`."""

from __future__ import annotations

import click

from logist.commands.output import print_json, print_text
from logist.commands.parameters import StorageUrl, json_option


@click.command()
@click.argument("spec", help="The spec, a file.")
@click.option(
    "--storage",
    type=StorageUrl(),
    required=True,
    metavar="URL",
    help="Where to: s3://bucket/folder, gs://bucket/folder, or a folder.",
)
@json_option
def bundle(spec: str, storage: str, as_json: bool) -> None:
    """Upload SPEC with all that is in its folder, and print the address that workers run its chunks from.

    What the spec makes stays, and what .logistignore beside it names. Files that are there already are not uploaded
    again. Then, anywhere: `logist job run ADDRESS --trust --chunk ID`, and here `logist job run SPEC --storage URL
    --merge-only`.
    """
    from logist.commands.chunks import SpecOptions, load
    from logist.commands.stored import tell_bundle
    from logist.spec_bundles import make_bundle
    from logist.storage.objects import open_storage

    target = open_storage(storage)
    made = make_bundle(load(spec, SpecOptions()), target, announce=tell_bundle, thorough=True)
    if as_json:
        print_json(
            {
                "address": str(made.address),
                "sha256": made.address.sha256,
                "files": len(made.bundle.manifest.files),
                "bytes": made.bundle.size,
                "uploadedFiles": len(made.missing),
                "uploadedBytes": sum(file.size for file in made.missing),
            }
        )
    else:
        print_text(str(made.address))
