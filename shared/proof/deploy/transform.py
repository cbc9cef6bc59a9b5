"""Writes what AWS makes of a SAM template, with AWS's own translator: CloudFormation, as JSON."""

import json
import sys

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse


class NoManagedPolicies:
    """The template names none of AWS's managed policies, which the translator would look up."""

    def load(self):
        return {}


with open(sys.argv[1], encoding="utf-8") as template:
    json.dump(transform(yaml_parse(template.read()), {}, NoManagedPolicies()), sys.stdout)
