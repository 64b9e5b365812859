"""The names of Docker Hub's official images, which Dockerfiles write without a namespace: `python:3.12`.

Source: the folder `library/` of docker-library/official-images, with images that are deprecated.
"""

from __future__ import annotations

from typing import Final

_NAMES: Final = (
    "adminer aerospike almalinux alpine alt amazoncorretto amazonlinux api-firewall arangodb archlinux backdrop bash bonita "
    "buildpack-deps busybox caddy cassandra centos chronograf cirros clearlinux clefos clojure composer consul convertigo "
    "couchbase couchdb crate crux dart debian docker drupal eclipse-mosquitto eclipse-temurin eggdrop elasticsearch elixir "
    "emqx erlang express-gateway fedora flink fluentd friendica gazebo gcc geonetwork ghost golang gradle groovy haproxy "
    "haskell haxe hello-seattle hello-world hitch hola-mundo httpd hylang ibm-semeru-runtimes ibmjava influxdb iojs irssi "
    "java jenkins jetty jobber joomla jruby julia kaazing-gateway kapacitor kibana known kong krakend lightstreamer "
    "liquibase logstash mageia mariadb matomo maven mediawiki memcached mongo mongo-express monica mono mysql nats nats- "
    "streaming neo4j neurodebian nextcloud nginx node notary nuxeo odoo open-liberty openjdk opensuse oraclelinux orientdb "
    "owncloud percona perl photon php php-zendserver phpmyadmin piwik plone postfixadmin postgres pypy python r-base "
    "rabbitmq rails rakudo-star rapidoid redis redmine registry rethinkdb rocket.chat rockylinux ros ruby rust sapmachine "
    "satosa scratch sentry silverpeas sl solr sonarqube sourcemage spark spiped storm swarm swift swipl tarantool teamspeak "
    "telegraf thrift tomcat tomee traefik ubuntu unit varnish vault websphere-liberty wordpress xwiki yourls zookeeper znc "
)
OFFICIAL: Final = frozenset(_NAMES.split())
