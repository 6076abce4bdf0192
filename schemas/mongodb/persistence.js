// Indexes for what is kept for clients: mongosh DATABASE persistence.js
db.mqtt_client.createIndex({ clientid: 1 }, { unique: true });
db.mqtt_sub.createIndex({ clientid: 1, topic: 1 }, { unique: true });
db.mqtt_msg.createIndex({ topic: 1, _id: 1 });
db.mqtt_msg.createIndex({ arrived: 1 });
db.mqtt_acked.createIndex({ clientid: 1, msgid: 1 });
db.mqtt_acked.createIndex({ created: 1 });
db.mqtt_retain.createIndex({ topic: 1 }, { unique: true });
