"""The rules themselves: silent about what is right, and each of them able to complain."""

import copy
import unittest

import engines
import rules


def right():
    return next(obj for obj in engines.manifest("smartercni_ds.yaml") if obj["kind"] == "DaemonSet")


class Rules(unittest.TestCase):
    def test_every_rule_is_silent_about_the_manifest_and_complains_about_a_spoiled_one(self):
        for rule in rules.RULES:
            self.assertEqual(list(rule.complaints(right())), [], rule.sentence)
            self.assertTrue(rule.spoilers, f"nobody tried to break: {rule.sentence}")
            for number, spoil in enumerate(rule.spoilers):
                spoiled = right()
                spoil(spoiled)
                self.assertNotEqual(spoiled, right(), f"{rule.sentence}: spoiler {number} changes nothing")
                self.assertTrue(list(rule.complaints(spoiled)), f"{rule.sentence}: spoiler {number} goes unnoticed")

    def test_every_program_of_the_tables_is_in_a_manifest(self):
        daemonsets = [obj for name in ("smartercni_ds.yaml", "uninstall.yaml") for obj in engines.manifest(name)
                      if obj["kind"] == "DaemonSet"]
        programs = {rules.program(container) for daemonset in daemonsets for container in rules.containers(daemonset)}
        self.assertEqual(programs, set(rules.CAPABILITIES))
        self.assertEqual(programs, set(rules.PROPAGATION))

    def test_objects_that_do_not_belong_together_are_noticed(self):
        objects = engines.manifest("smartercni_ds.yaml")
        self.assertEqual(list(rules.do_not_belong_together(objects)), [])
        for spoil in (
            lambda spoiled: spoiled.pop(0),
            lambda spoiled: spoiled.append(spoiled[0]),
            lambda spoiled: spoiled[0]["metadata"].update({"namespace": "default"}),
            lambda spoiled: spoiled[0]["metadata"].update({"name": "Smarter_CNI"}),
            lambda spoiled: spoiled[1]["metadata"]["labels"].update({"version": "0.1.0+x"}),
            lambda spoiled: spoiled[1]["spec"]["template"]["metadata"]["labels"].update({"version": "-"}),
            lambda spoiled: rules.last(spoiled[1]).update({"name": "install"}),
        ):
            spoiled = copy.deepcopy(objects)
            spoil(spoiled)
            self.assertTrue(list(rules.do_not_belong_together(spoiled)))

    def test_the_schema_knows_unknown_fields_and_wrong_types(self):
        self.assertEqual(engines.against_schema(right()), "")
        spoiled = right()
        rules.pod(spoiled)["hostnetwork"] = True
        self.assertIn("hostnetwork", engines.against_schema(spoiled))
        spoiled = right()
        rules.last(spoiled)["securityContext"]["runAsUser"] = "0"
        self.assertIn("runAsUser", engines.against_schema(spoiled))
        self.assertNotEqual(engines.against_schema({**right(), "apiVersion": "apps/v9"}), "")
