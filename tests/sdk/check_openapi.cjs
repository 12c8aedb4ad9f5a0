// Prints what Redocly finds wrong in a description of an API: whether it is OpenAPI at all, and its recommended rules.
// Arguments: the folder of the modules, and the description's URL.

const [modules, url] = process.argv.slice(2);
const { createConfig, lint } = require(`${modules}/@redocly/openapi-core`);

(async () => {
    // A description of a service on loopback names it; of whom it is, the service does not know.
    const rules = { "no-server-example.com": "error", "operation-operationId": "error", "operation-description": "off" };
    const config = await createConfig({ extends: ["spec", "recommended-strict"], rules });
    const problems = await lint({ ref: url, config });
    for (const problem of problems) {
        console.log(`${problem.severity} ${problem.ruleId} ${problem.location[0]?.pointer}: ${problem.message}`);
    }
})();
