;;; rlm-ol.el --- Org links to runs  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.


;;; Commentary:

;; A link rlm:RUN leads to a run, and rlm:RUN#NODE to a node of it, such as
;; rlm:20260301-120000-c0ffee#0.2.1.  `org-store-link' in the buffer of a
;; run makes one.  To follow such links from anywhere:
;;
;;   (with-eval-after-load 'org (require 'rlm-ol))

;;; Code:

(require 'ol)
(require 'rlm-run)
(require 'rlm-restore)

(declare-function org-element-contents "org-element" (node))
(declare-function org-element-map "org-element" (data types fun &rest options))
(declare-function org-element-property "org-element" (property node))
(declare-function org-element-put-property "org-element" (node property value))
(declare-function org-export-data "ox" (data info))
(declare-function org-export-derived-backend-p "ox" (backend &rest backends))
(declare-function rlm-read-run "rlm-commands" ())

(defvar rlm-ol-open-functions nil
  "Functions called with the id that a link names, until one has shown it.")

(defun rlm-ol-open (path &optional _)
  "Show the run, and go to the node, that PATH names."
  (unless (string-match "\\`\\([0-9a-zA-Z-]+\\)\\(?:#\\([0-9.]+\\)\\)?\\'" path)
    (user-error "This names no run: %s" path))
  (let ((id (match-string 1 path))
        (node (match-string 2 path)))
    (or (run-hook-with-args-until-success 'rlm-ol-open-functions id)
        (pop-to-buffer (rlm-restore-open id node)))))

(defun rlm-ol-open-attribute ()
  "Follow the link to a run in the attribute at point; return nil if it is none.
Org looks for no links there."
  (save-excursion
    (forward-line 0)
    (when (looking-at "[ \t]*#\\+attr_rlm: \\[\\[rlm:\\([^]]+\\)\\]")
      (rlm-ol-open (match-string-no-properties 1))
      t)))

(add-hook 'org-open-at-point-functions #'rlm-ol-open-attribute)

(defun rlm-ol-store (&optional _interactive)
  "Store a link to the node at point in the buffer of a run."
  (when-let ((run (rlm-run-in-buffer)))
    (when (rlm-run-id run)
      (let ((node (rlm-restore-node)))
        (org-link-store-props
         :type "rlm"
         :link (concat "rlm:" (rlm-run-id run) (and node (concat "#" node)))
         :description (concat (and node (concat (rlm-ol--name) ": "))
                              (rlm-run-question run)))))))

(defun rlm-ol--name ()
  "Return the heading at point, such as Iteration 2, without what is told of it."
  (replace-regexp-in-string "\\(?::\\| (\\)\\(?:.\\|\n\\)*\\'" "" (org-get-heading t t t t)))

(defun rlm-ol-complete (&optional _)
  "Let the user choose a run, and return a link to it."
  (concat "rlm:" (plist-get (rlm-read-run) :runId)))

(defun rlm-ol-export (path description backend info)
  "Return what an export to BACKEND has for a link to PATH: its DESCRIPTION.
What is exported leads to no Emacs, so that there it is no link.  Without a
description the run's id is told, in the way of the format that INFO is about.
In Org, of which Org's tables are made too, it stays a link."
  (unless (org-export-derived-backend-p backend 'org)
    (or description (org-export-data (concat "rlm:" path) info))))

(org-link-set-parameters "rlm"
                         :follow #'rlm-ol-open
                         :export #'rlm-ol-export
                         :store #'rlm-ol-store
                         :complete #'rlm-ol-complete)

(defun rlm-ol-forget-lines (tree backend info)
  "Let the links of evidence in TREE, an export's to BACKEND, name files alone.
For HTML, Org looks in the file for the number of the line as for any words,
and gives the export up where they are not there.  The description has it.
That is for what INFO says is a transcript, and for what links to a run."
  (when (and (org-export-derived-backend-p backend 'html)
             (or (member "rlm" (plist-get info :filetags))
                 (rlm-ol--mentions-run-p tree)))
    (org-element-map tree 'link
      (lambda (link)
        (let ((line (org-element-property :search-option link))
              (text (car (org-element-contents link))))
          (when (and line (string-match-p "\\`[0-9]+\\'" line)
                     (stringp text) (string-suffix-p (concat ":" line) text))
            (org-element-put-property link :search-option nil))))))
  tree)

(defun rlm-ol--mentions-run-p (tree)
  "Return non-nil if there is a link to a run in TREE."
  (org-element-map tree 'link
    (lambda (link) (equal "rlm" (org-element-property :type link)))
    nil t))

;; Org calls what is on this hook before it looks at a link; to have it on the hook
;; in some buffers alone, one would have to know which, when a file is visited.
(add-hook 'org-export-filter-parse-tree-functions #'rlm-ol-forget-lines)

(provide 'rlm-ol)
;;; rlm-ol.el ends here
